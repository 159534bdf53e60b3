"""Evaluates one subject as it is served: behavioural suites by conversation, capability tasks by lm-eval, both cached.

The cache is by content: who answers, with which prompt and limits, to which version of which suite. Capability does
not depend on the prompt, so the base model with a long and with a short prompt is asked once.
"""

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from configs.canonical import digest_bytes, digest_of, short
from configs.evals import EvalsConfig
from delivery.clients.fresh_folder import explained_writes
from delivery.progress import Progress
from evals.report import EvalReport, SuiteResult
from evals.scorers import scorer
from evals.suites import FOLDER, Suite, load_suites
from evals.summaries import summarise
from tasks.evals import capability
from tasks.evals import conversations as talk
from tasks.evals.conversations import Subject

__all__ = ["Subject", "evaluate"]


def evaluate(
    subject: Subject,
    vllm_url: str,
    config: EvalsConfig,
    tokenizer_folder: Path,
    home: Path,
    on_progress: Progress,
    api_key: str | None = None,
    *,
    holdout: Path | None = None,
    suites_folder: Path = FOLDER,
    environment: Mapping[str, str] = os.environ,
    retry_delay_s: float = 0.5,
) -> EvalReport:
    """All suites of the configuration on one subject, which vLLM serves already; an unchanged part is not run again.

    `holdout` is the held-out part of the dataset version (holdout.jsonl), for suites with `samples: holdout`;
    `environment` has what ${NAME} in a capability task's YAML stands for; `retry_delay_s` passes before a request is
    sent again after a connection error. Raises ConfigError for suites or tasks that cannot be used, SlipwayError when
    vLLM or lm-eval fails.
    """
    suites = load_suites(config.behaviour, suites_folder, holdout)
    shipped = capability.shipped_tasks([c.task for c in config.capability], environment)

    def hold() -> talk.Transcripts:
        samples = [sample for suite in suites for sample in suite.samples]
        return talk.hold(
            subject, samples, vllm_url, config.concurrency, on_progress, api_key, retry_delay_s=retry_delay_s
        )

    report = _behaviour(subject, suites, home, hold)
    asked = _capability(subject, config, shipped, vllm_url, tokenizer_folder, home, on_progress, api_key)
    return report.model_copy(update={"suites": {**report.suites, **asked}})


def _behaviour(
    subject: Subject, suites: Sequence[Suite], home: Path, hold: Callable[[], talk.Transcripts]
) -> EvalReport:
    key = digest_of(
        {
            "identity": subject.identity,
            "system_prompt": subject.system_prompt,
            "temperature": subject.temperature,
            "max_tokens": subject.max_tokens,
            "chat_template_kwargs": dict(subject.chat_template_kwargs),
            "system_place": subject.system_place,
            "suites": [suite.version for suite in suites],
            "code": digest_bytes(Path(talk.__file__).read_bytes()),
        }
    )
    stored = _read(home, key)
    if stored is None:
        transcripts = hold()
        report = _report(subject, suites, transcripts)
        if not transcripts.failed:  # a failed request says nothing about the model: next time it is asked again
            _write(home, key, report.model_dump(mode="json"))
        return report
    return EvalReport.model_validate(stored).model_copy(update={"subject": subject.name, "model": subject.model})


def _report(subject: Subject, suites: Sequence[Suite], transcripts: talk.Transcripts) -> EvalReport:
    results = {}
    for suite in suites:
        score = scorer(suite.config.scorer)
        scores = [score(sample, transcripts.of(sample)) for sample in suite.samples]
        results[suite.config.name] = summarise(suite.config.name, suite.version, "behaviour", scores)
    return EvalReport(
        subject=subject.name,
        model=subject.model,
        system_prompt=subject.system_prompt,
        prompt_tokens_mean=fmean(transcripts.prompt_tokens) if transcripts.prompt_tokens else None,
        suites=results,
    )


def _capability(
    subject: Subject,
    config: EvalsConfig,
    shipped: dict[str, capability.TaskFile],
    vllm_url: str,
    tokenizer_folder: Path,
    home: Path,
    on_progress: Progress,
    api_key: str | None,
) -> dict[str, SuiteResult]:
    versions = {c.task: capability.task_version(c, shipped.get(c.task)) for c in config.capability}
    keys = {task: digest_of({"identity": subject.identity, "task": v}) for task, v in versions.items()}
    answers = {task: stored for task, key in keys.items() if (stored := _read(home, key)) is not None}
    missing = [c for c in config.capability if c.task not in answers]
    if missing:
        log = home / "evals" / "lm-eval.log"
        told = _told(on_progress, subject.name)
        wanted = {name: task for name, task in shipped.items() if name in {c.task for c in missing}}
        fresh = capability.ask(
            missing, wanted, subject.model, vllm_url, config.concurrency, tokenizer_folder, log, told, api_key
        )
        for task, found in fresh.items():
            _write(home, keys[task], found)
        answers |= fresh
    results = {}
    for name, entry in config.capability_suites.items():
        suite_version = digest_of({"task": versions[entry.task], "metric": entry.metric})
        scores = capability.scores(entry, answers[entry.task])
        results[name] = summarise(name, suite_version, "capability", scores)
    return results


def _told(on_progress: Progress, name: str) -> Callable[[int, int, str], None]:
    return lambda done, total, text: on_progress(done, total, f"{name}: {text}")


def _read(home: Path, key: str) -> Any | None:
    """What was stored under exactly this key; a damaged file counts as none, and is written again."""
    try:
        stored = json.loads(_path(home, key).read_text(encoding="utf-8"))
        return stored["value"] if stored["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(home: Path, key: str, value: Any) -> None:
    path = _path(home, key)
    fresh = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    with explained_writes(path.parent, "eval results"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with fresh.open("w", encoding="utf-8") as file:
                json.dump({"key": key, "value": value}, file, ensure_ascii=False, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)


def _path(home: Path, key: str) -> Path:
    return home / "evals" / f"{short(key)}.json"
