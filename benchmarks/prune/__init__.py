"""Pruning of a digits network, method against method: `python -m benchmarks.prune`."""
