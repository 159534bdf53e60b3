"""The process that trains: a thin door in front of `tasks.training.sft`, opened before the slow imports."""

import sys
from pathlib import Path

from tasks.child import Report, serve


def work(spec: Path, report: Report) -> None:
    """`spec` is the JSON of a `tasks.training.sft.Run`."""
    report({"event": "phase", "text": "importing torch and trl"})
    from tasks.training.sft import Run, run_training

    run_training(Run.model_validate_json(spec.read_bytes()), report)


if __name__ == "__main__":
    sys.exit(serve(work, "the training's checkpoints and its adapter"))
