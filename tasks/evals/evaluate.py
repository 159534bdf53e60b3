"""Evaluates one subject as it is served: behavioural suites by conversation, capability tasks by lm-eval, both cached.

The cache is by content: who answers, on which engine, with which prompt and limits, to which version of which suite.
Capability does not depend on the prompt, so the base model with a long and with a short prompt is asked once.
"""

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from configs.canonical import digest_bytes, digest_of, short
from configs.contract import Contract
from configs.evals import EvalsConfig
from delivery.clients.fresh_folder import explained_writes
from delivery.progress import Progress
from evals.report import EvalReport, SuiteResult
from evals.results import results_of
from evals.scorers.judge import JudgeScorer
from evals.scorers.kinds import scorer
from evals.suites import FOLDER, Suite, load_suites
from evals.summaries import summarise
from tasks.evals import capability
from tasks.evals import conversations as talk
from tasks.evals.conversations import Subject
from tasks.evals.judging import judge_replies, require_judge

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
    engine: Mapping[str, str],
    holdout: Path | None = None,
    suites_folders: Sequence[Path] = (FOLDER,),
    contract: Contract | None = None,
    environment: Mapping[str, str] = os.environ,
    retry_delay_s: float = 0.5,
    again: bool = False,
) -> EvalReport:
    """All suites of the configuration on one subject, which vLLM serves already; an unchanged part is not run again.

    `engine` says what answers (`tasks.evals.engine`): with another engine all is asked anew. `holdout` is the held-out
    part of the dataset version (holdout.jsonl), for suites with `samples: holdout`;
    `environment` has what ${NAME} in a capability task's YAML stands for; `retry_delay_s` passes before a request is
    sent again after a connection error. `again`: a second run for the stack's own noise, kept by itself, with half as
    many requests at a time and in the other order, so that other ones are batched together. Raises ConfigError for
    suites or tasks that cannot be used, SlipwayError when vLLM or lm-eval fails.
    """
    if again:
        config = config.model_copy(update={"concurrency": max(1, config.concurrency // 2)})
        engine = {**engine, "run": f"again, {config.concurrency} requests at a time"}
    suites = load_suites(config.behaviour, suites_folders, holdout, contract)
    shipped = capability.shipped_tasks(
        [c.task for c in config.capability], environment, [place / "capability" for place in suites_folders]
    )

    def hold() -> talk.Transcripts:
        samples = [sample for suite in suites for sample in suite.samples][:: -1 if again else 1]
        return talk.hold(
            subject, samples, vllm_url, config.concurrency, on_progress, api_key, retry_delay_s=retry_delay_s
        )

    for suite in suites:
        if isinstance(suite.scorer, JudgeScorer):
            require_judge(suite.scorer.judge_by, environment)
    report = _behaviour(subject, suites, home, hold, engine, environment)
    asked = _capability(subject, config, shipped, vllm_url, tokenizer_folder, home, on_progress, api_key, engine)
    return report.model_copy(update={"suites": {**report.suites, **asked}})


def _behaviour(
    subject: Subject,
    suites: Sequence[Suite],
    home: Path,
    hold: Callable[[], talk.Transcripts],
    engine: Mapping[str, str],
    environment: Mapping[str, str],
) -> EvalReport:
    key = digest_of(
        {
            "identity": subject.identity,
            "engine": dict(engine),
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
        report, failed = _report(subject, suites, transcripts, environment)
        report = report.model_copy(update={"engine": dict(engine)})
        if not transcripts.failed and not failed:  # a failed request says nothing of the model: it is asked again
            _write(home, key, report.model_dump(mode="json"))
        return report
    return EvalReport.model_validate(stored).model_copy(update={"subject": subject.name, "model": subject.model})


def _report(
    subject: Subject, suites: Sequence[Suite], transcripts: talk.Transcripts, environment: Mapping[str, str]
) -> tuple[EvalReport, list[str]]:
    """The report, and what a judge failed to say."""
    results: dict[str, SuiteResult] = {}
    failed: list[str] = []
    for suite in suites:
        asked = [(sample, transcripts.of(sample)) for sample in suite.samples]
        if isinstance(suite.scorer, JudgeScorer):
            judgements = judge_replies(suite.scorer, asked, environment)
            failed += judgements.failed
            results |= results_of(suite, judgements.scores)
        else:
            score = scorer(suite.scorer)
            results |= results_of(suite, [score(sample, replies) for sample, replies in asked])
    report = EvalReport(
        subject=subject.name,
        model=subject.model,
        system_prompt=subject.system_prompt,
        prompt_tokens_mean=fmean(transcripts.prompt_tokens) if transcripts.prompt_tokens else None,
        suites=results,
    )
    return report, failed


def _capability(
    subject: Subject,
    config: EvalsConfig,
    shipped: dict[str, capability.TaskFile],
    vllm_url: str,
    tokenizer_folder: Path,
    home: Path,
    on_progress: Progress,
    api_key: str | None,
    engine: Mapping[str, str],
) -> dict[str, SuiteResult]:
    versions = {c.task: capability.task_version(c, shipped.get(c.task)) for c in config.capability}
    asked = {"identity": subject.identity, "engine": dict(engine), "code": capability.code_digest()}
    keys = {task: digest_of({**asked, "task": v}) for task, v in versions.items()}
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
        scored = capability.scores(entry, answers[entry.task])
        results[name] = summarise(name, suite_version, "capability", scored.scores, better=scored.better)
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
