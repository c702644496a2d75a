"""Checks for people who write samplers, encodings or steps: an AssertionError gives the reason."""

from qanneal_opt.testing.encodings import assert_encoding
from qanneal_opt.testing.samplers import assert_sampler
from qanneal_opt.testing.steps import assert_step

__all__ = ["assert_encoding", "assert_sampler", "assert_step"]
