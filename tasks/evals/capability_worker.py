"""The process that runs lm-eval against vLLM: it reads its order, reports each request, and leaves the answers."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import aiohttp

from configs.errors import SlipwayError
from tasks import child

OUTPUT_CHARS = 200

TaskSample = tuple[str, Mapping[str, Any]]  # the task's name, and what lm-eval logged of one question


def work(spec: Path, report: child.OnWorkerEvent) -> None:
    """Runs the ordered tasks, those with the same limit together, and writes their answers to the `result` file."""
    order = json.loads(spec.read_text(encoding="utf-8"))
    report({"event": "progress", "done": 0, "total": 0, "text": "lm-eval starts"})
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from tasks.evals.vllm_model import VllmModel

    manager = TaskManager(include_path=order["include_path"], include_defaults=order["include_defaults"])
    _check_known(order["tasks"], manager)
    model = VllmModel(order, report)
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
            samples = _samples(name, results)
            answers[name] = {"answers": answers_of(samples), "metrics": metrics_of(samples, results)}
    Path(order["result"]).write_text(json.dumps(answers), encoding="utf-8")


def _check_known(names: Iterable[str], manager: Any) -> None:
    if unknown := [name for name in names if not manager.match_tasks([name])]:
        raise SlipwayError(
            f"lm-eval knows no task {', '.join(unknown)}",
            where="evals.yaml: capability",
            cure="shipped are the YAML files under evals/capability; lm-eval's own are listed by `lm_eval ls tasks`",
        )


def _samples(name: str, results: Mapping[str, Any]) -> list[TaskSample]:
    """The task's own samples, or, for a group, those of all its tasks, each with the name of its task."""
    if name in results["samples"]:
        return [(name, sample) for sample in results["samples"][name]]
    return [found for part in results.get("group_subtasks", {}).get(name, ()) for found in _samples(part, results)]


def answers_of(samples: Iterable[TaskSample]) -> list[dict[str, Any]]:
    """One answer a question, in the questions' order; its values by "metric,filter", the first filter's first."""
    answers: dict[str, dict[str, Any]] = {}
    for task, sample in samples:
        identity = f"{task}/{sample['doc_id']}"
        output = str(sample["filtered_resps"])[:OUTPUT_CHARS]
        answer = answers.setdefault(identity, {"id": identity, "values": {}, "output": output})
        for name in sample["metrics"]:
            if (value := _number(sample.get(name))) is not None:
                answer["values"][f"{name},{sample['filter']}"] = value
    return sorted(answers.values(), key=lambda answer: _order(answer["id"]))


def metrics_of(samples: Sequence[TaskSample], results: Mapping[str, Any]) -> dict[str, dict[str, bool | None]]:
    """By "metric,filter": whether higher is better, and whether lm-eval's figure is the mean over the questions.

    What is not a mean (a perplexity, a corpus' BLEU) says nothing question by question. Of a group, all tasks count:
    where they disagree about the direction there is none.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for task, sample in samples:
        for name in sample["metrics"]:
            if (value := _number(sample.get(name))) is not None:
                values.setdefault(f"{name},{sample['filter']}", {}).setdefault(task, []).append(value)
    found: dict[str, dict[str, bool | None]] = {}
    for metric, by_task in values.items():
        ways = {results["higher_is_better"].get(task, {}).get(metric.partition(",")[0]) for task in by_task}
        means = [_is_mean(own, results["results"].get(task, {}).get(metric)) for task, own in by_task.items()]
        found[metric] = {"higher_is_better": ways.pop() if len(ways) == 1 else None, "is_mean": all(means)}
    return found


def _is_mean(values: Sequence[float], told: Any) -> bool:
    return isinstance(told, int | float) and math.isclose(fmean(values), told, rel_tol=1e-9, abs_tol=1e-9)


def _order(identity: str) -> tuple[str, int]:
    task, _, number = identity.rpartition("/")
    return task, int(number)


def _number(value: Any) -> float | None:
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


if __name__ == "__main__":
    sys.exit(child.serve(work, "lm-eval's answers"))
