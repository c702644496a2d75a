"""Benchmarks of `qanneal_opt` against tuned baselines: ``python -m benchmarks list``."""
