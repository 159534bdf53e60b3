"""The process that runs lm-eval against vLLM: it reads its order, reports each request, and leaves the answers."""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from configs.errors import SlipwayError
from tasks import child

OUTPUT_CHARS = 200


def work(spec: Path, report: child.OnWorkerEvent) -> None:
    """Runs the ordered tasks, those with the same limit together, and writes their answers to the `result` file."""
    order = json.loads(spec.read_text(encoding="utf-8"))
    report({"event": "progress", "done": 0, "total": 0, "text": "lm-eval starts"})
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=order["include_path"], include_defaults=order["include_defaults"])
    _check_known(order["tasks"], manager)
    model = _model(order, report)
    answers: dict[str, Any] = {}
    for limit in dict.fromkeys(order["tasks"].values()):
        names = [name for name, its in order["tasks"].items() if its == limit]
        try:
            results = simple_evaluate(
                model=model, tasks=names, limit=limit, task_manager=manager, log_samples=True, bootstrap_iters=0
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SlipwayError(
                f"vLLM failed under lm-eval's requests: {error}",
                where=order["base_url"],
                cure="see whether vLLM still runs, and its log; then start the evaluation again",
            ) from error
        for name in names:
            answers[name] = answers_of(_samples(name, results))
    Path(order["result"]).write_text(json.dumps(answers), encoding="utf-8")


def _check_known(names: Iterable[str], manager: Any) -> None:
    if unknown := [name for name in names if not manager.match_tasks([name])]:
        raise SlipwayError(
            f"lm-eval knows no task {', '.join(unknown)}",
            where="evals.yaml: capability",
            cure="shipped are the YAML files under evals/capability; lm-eval's own are listed by `lm_eval ls tasks`",
        )


def _model(order: Mapping[str, Any], report: child.OnWorkerEvent) -> Any:
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    class Counted(LocalCompletionsAPI):  # type: ignore[misc]
        """lm-eval shows its progress on a terminal only; here each answer is an event."""

        done = total = 0

        async def get_batched_requests(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            self.total += len(requests)
            return await super().get_batched_requests(requests, *args, **kwargs)

        async def amodel_call(self, *args: Any, **kwargs: Any) -> Any:
            answer = await super().amodel_call(*args, **kwargs)
            self.done += 1
            report({"event": "progress", "done": self.done, "total": self.total, "text": "capability questions"})
            return answer

    return Counted(
        model=order["model"],
        base_url=order["base_url"],
        tokenizer=order["tokenizer"],
        tokenizer_backend="huggingface",
        num_concurrent=max(2, order["concurrency"]),  # with 1, lm-eval takes another path, without the calls above
        max_retries=3,
        max_length=order["max_length"],
        batch_size=1,
    )


def _samples(name: str, results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The task's own samples, or, for a group, those of all its tasks, each with the name of its task."""
    if name in results["samples"]:
        return [(name, sample) for sample in results["samples"][name]]
    return [found for part in results.get("group_subtasks", {}).get(name, ()) for found in _samples(part, results)]


def answers_of(samples: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One answer a question, in the questions' order; of several filters the first one counts."""
    answers: dict[str, dict[str, Any]] = {}
    for task, sample in samples:
        values = {name: value for name in sample["metrics"] if (value := _number(sample.get(name))) is not None}
        identity = f"{task}/{sample['doc_id']}"
        output = str(sample["filtered_resps"])[:OUTPUT_CHARS]
        answers.setdefault(identity, {"id": identity, "values": values, "output": output})
    return sorted(answers.values(), key=lambda answer: _order(answer["id"]))


def _order(identity: str) -> tuple[str, int]:
    task, _, number = identity.rpartition("/")
    return task, int(number)


def _number(value: Any) -> float | None:
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


if __name__ == "__main__":
    sys.exit(child.serve(work, "lm-eval's answers"))
