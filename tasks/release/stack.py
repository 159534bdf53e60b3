"""Whether a changed serving stack may take over: one bundle, asked on the vLLM of today and on the changed one.

Another dtype, another quantisation, another version of vLLM or another context may change answers as much as another
adapter does. So the same paired gate judges it, with today's stack in production's place.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.canonical import short
from configs.environment import VllmConfig
from configs.errors import SlipwayError
from configs.project import Project
from configs.strict import Strict
from delivery.build.bundle import Bundle
from delivery.build.dataset import DatasetVersion
from delivery.build.gate import GateDecision, judge
from delivery.clients.bundles.images import read_bundle, unpack_adapter
from delivery.clients.fresh_folder import remove_whole
from delivery.progress import Progress, silent
from evals.report import EvalReport
from evals.tables import compare
from tasks.data.dataset import read_version
from tasks.evals.asked import asked_samples
from tasks.evals.engine import engine_of
from tasks.evals.model_server import API_KEY, apart, loaded_adapter, model_server
from tasks.evals.of_project import evaluate_for, subject_of
from tasks.mirror import mirror_of
from tasks.release.rebuild import base_of


class StackOutcome(Strict):
    """What the gate says of the changed stack. `changed`: what an answer can depend on -> (today, changed)."""

    bundle: str
    changed: dict[str, tuple[str, str]]
    gate: GateDecision
    reports: dict[str, EvalReport]  # today, changed

    def render(self) -> str:
        """For people: what differs, the scores, the findings, the verdict."""
        differs = "\n".join(
            f"  {name}: {old or 'not set'} -> {new or 'not set'}" for name, (old, new) in self.changed.items()
        )
        findings = "\n".join(f"  {f.verdict:5} {f.sentence} ({f.limit})" for f in self.gate.findings)
        verdict = "passes the eval gate" if self.gate.passed else "REFUSED by the eval gate"
        return (
            f"what differs:\n{differs}\n\n{compare(self.reports)}\n"
            f"the eval gate, with today's stack in production's place:\n{findings}\n"
            f"the changed stack under bundle {short(self.bundle)}: {verdict}"
        )


def compare_stacks(
    project: Project,
    home: Path,
    reference: str,
    changed: VllmConfig,
    context_tokens: int | None = None,
    on_progress: Progress = silent,
) -> StackOutcome:
    """Asks the bundle on both stacks, each a vLLM of its own that ends here, one after the other.

    What `changed` does not name stays as it is today. `context_tokens` stands for model.yaml's max_context_tokens in
    the changed stack. What was asked before on the same engine is not asked again. Raises SlipwayError where the bundle
    has no adapter, or nothing differs.
    """
    mirror_of(project.environment, home).fetch_built(reference)
    bundle = read_bundle(home, reference)
    if bundle.adapter is None or bundle.dataset_version is None:
        what = "the base model" if bundle.merged is None else "a merged model, which its parent was compared with"
        raise SlipwayError(f"bundle {short(bundle.digest)} is {what}", cure="name one with an adapter: slipway bundles")
    base = base_of(bundle, project, home, on_progress)
    version = read_version(home, bundle.dataset_version)
    today = apart(project, f"stack-{short(bundle.digest)}")
    other = replace(
        today,
        environment=today.environment.model_copy(
            update={"vllm": today.environment.vllm.model_copy(update=_named(changed))}
        ),
        model=project.model.model_copy(
            update={"max_context_tokens": context_tokens or project.model.max_context_tokens}
        ),
    )
    old = _asked(today, bundle, version, base, home, "today", None, on_progress)
    new = _asked(other, bundle, version, base, home, "changed", old, on_progress)
    remove_whole(home / "environments" / today.environment.name)  # its log; after an error it stays
    asked = asked_samples(project, version.folder / "holdout.jsonl")
    return StackOutcome(
        bundle=bundle.digest,
        changed=_differences(old.engine, new.engine),
        gate=judge(project.evals.gates, new, old, asked),
        reports={"today": old, "changed": new},
    )


def _asked(
    project: Project,
    bundle: Bundle,
    version: DatasetVersion,
    base: Path,
    home: Path,
    name: str,
    beside: EvalReport | None,
    on_progress: Progress,
) -> EvalReport:
    """The bundle's evals on this project's vLLM; before they begin it must differ from the engine of `beside`."""
    with model_server(project, base, home, on_progress) as url:
        engine = engine_of(project, base, home, url, os.environ.get(API_KEY))
        if beside is not None and not _differences(beside.engine, engine):
            raise SlipwayError(
                "both stacks are the same in all that an answer can depend on: there is nothing to compare",
                cure="change vllm.dtype, vllm.extra_args or vllm.python in the environment file, or give --context",
            )
        with loaded_adapter(project, home, url, bundle.served_name, unpack_adapter(bundle, home)):
            subject = subject_of(bundle, name)
            found = evaluate_for(project, subject, url, base, version, home, on_progress, engine=engine)
    return found.model_copy(update={"engine": engine})


def _named(changed: VllmConfig) -> dict[str, Any]:
    """What somebody set of how vLLM runs; where it listens is not theirs to say here."""
    return {name: getattr(changed, name) for name in changed.model_fields_set - {"host", "port"}}


def _differences(old: dict[str, str], new: dict[str, str]) -> dict[str, tuple[str, str]]:
    names = sorted({*old, *new})
    return {name: (old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)}
