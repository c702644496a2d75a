"""Compiled baselines that several tasks share; nothing here imports `qanneal_opt`."""
