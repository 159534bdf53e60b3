"""lm-eval as its documentation runs it, in a process of its own: `python -m benchmarks.evals.plain ORDER RESULT`.

ORDER is JSON: the folder of task files, {task: limit}, the model's folder, its dtype and the batch size.
"""

import json
import sys
from pathlib import Path

from tasks.evals.capability_worker import answers_of


def main(order_file: str, result_file: str) -> None:
    """Runs all tasks with the hf backend and writes the answers, question by question."""
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    order = json.loads(Path(order_file).read_text(encoding="utf-8"))
    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": order["model"], "dtype": order["dtype"]},
        tasks=order["tasks"],
        limit=order["limit"],
        device="cuda" if torch.cuda.is_available() else "cpu",
        batch_size=order["batch_size"],
        task_manager=TaskManager(include_path=order["include_path"], include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    answers = {name: answers_of([(name, sample) for sample in samples]) for name, samples in results["samples"].items()}
    Path(result_file).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
