"""The same capability tasks through plain lm-eval and through ours: `python -m benchmarks.evals --json PATH`."""
