"""Rounding of trained networks, method against method: `python -m benchmarks.quantize`."""
