"""Measurements that are published: each `python -m benchmarks.NAME --json PATH` gives figures beside their targets."""
