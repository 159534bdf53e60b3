"""Our own training in a process of its own, so that its memory is its alone."""

import json
import resource
import sys
from pathlib import Path

from tasks.training import loss_curve


def main(spec: Path) -> None:
    """`spec` is the JSON of a `tasks.training.run.TrainingRun`; what is measured goes to ours.json in its folder."""
    from tasks.training.run import TrainingRun, run_training

    run = TrainingRun.model_validate_json(spec.read_bytes())
    run_training(run, lambda event: None)
    points = loss_curve.read(run.folder / "curve.jsonl")
    result = {
        "tokens_per_s": points[-1].tokens / points[-1].seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "losses": [point.loss for point in points],
    }
    (run.folder / "ours.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
