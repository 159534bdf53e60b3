"""The process that trains: a thin door in front of `tasks.training.sft`, opened before the slow imports."""

import sys
from pathlib import Path

from tasks.child import OnWorkerEvent, serve


def work(spec: Path, report: OnWorkerEvent) -> None:
    """`spec` is the JSON of a `tasks.training.sft.Run`."""
    report({"event": "phase", "text": "importing torch and trl"})
    from tasks.training.sft import TrainingRun, run_training

    run_training(TrainingRun.model_validate_json(spec.read_bytes()), report)


if __name__ == "__main__":
    sys.exit(serve(work, "the training's checkpoints and its adapter"))
