"""What the demo and the benchmarks share: real data, compiled baselines, and the alternation on them."""
