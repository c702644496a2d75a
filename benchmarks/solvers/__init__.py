"""The race of QUBO solvers: `python -m benchmarks.solvers`."""
