"""Rounding a trained network's weights: layer by layer, as lattice problems."""
