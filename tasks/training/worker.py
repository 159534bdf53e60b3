"""The process that trains: a thin door in front of `tasks.training.run`, opened before the slow imports."""

import sys
from pathlib import Path

from tasks.child import OnWorkerEvent, serve


def work(spec: Path, report: OnWorkerEvent) -> None:
    """`spec` is the JSON of a `tasks.training.run.TrainingRun`."""
    report({"event": "phase", "text": "importing torch and trl"})
    from tasks.training.ranks import side_by_side
    from tasks.training.run import TrainingRun, run_training

    run = TrainingRun.model_validate_json(spec.read_bytes())
    with side_by_side(run.config.processes, spec):
        run_training(run, report)


if __name__ == "__main__":
    sys.exit(serve(work, "the training's checkpoints and its adapter"))
