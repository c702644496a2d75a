"""The tasks, one module each; the registry is this folder (`benchmarks.harness.task_names`)."""
