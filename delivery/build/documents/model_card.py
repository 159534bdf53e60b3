"""The model card: Markdown under the YAML header that model hubs read."""

from typing import Any

import yaml

from configs.canonical import short
from delivery.build.bundle import Bundle, SuiteScore
from delivery.build.documents.origin import BILL, EVAL_REPORT, LICENSES, PROVENANCE, DocumentBasis

HUB_LICENSES = (
    "apache-2.0 mit bsd-2-clause bsd-3-clause cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 "
    "cc-by-nc-nd-4.0 cc0-1.0 gpl-2.0 gpl-3.0 agpl-3.0 lgpl-3.0 mpl-2.0 epl-2.0 unlicense isc odc-by pddl"
)


def model_card(bundle: Bundle, origin: DocumentBasis) -> bytes:
    """README.md, with the bundle's digest in the header."""
    parts = [_opening(bundle), _serving(bundle), _training(bundle, origin), _scores(bundle), _more(bundle, origin)]
    header = yaml.safe_dump(_header(bundle, origin), sort_keys=False, allow_unicode=True, width=120)
    text = "\n".join(part for part in parts if part)
    return f"---\n{header}---\n\n{text}".encode()


def _header(bundle: Bundle, origin: DocumentBasis) -> dict[str, Any]:
    header: dict[str, Any] = {"base_model": origin.base_source, "pipeline_tag": "text-generation"}
    header |= _license(origin.licenses.adapter if bundle.trained else origin.licenses.base_model)
    if bundle.adapter is not None:
        header |= {"library_name": "peft", "tags": ["lora", "slipway"]}
    if origin.dataset is not None:
        header["datasets"] = [origin.dataset.name]
    if bundle.evals:
        header["metrics"] = list(bundle.evals)
        header["model-index"] = [{"name": bundle.route, "results": [_result(*one) for one in bundle.evals.items()]}]
    return header | {"bundle": bundle.digest}


def _license(spdx: str | None) -> dict[str, str]:
    """A hub's own word for a licence; what it has no word for is `other`, and named."""
    if spdx is None:
        return {"license": "unknown"}
    word = spdx.lower().removesuffix("-only").removesuffix("-or-later")
    return {"license": word} if word in HUB_LICENSES.split() else {"license": "other", "license_name": spdx}


def _result(suite: str, found: SuiteScore) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation"},
        "dataset": {"type": suite, "name": suite, "revision": found.version},
        "metrics": [{"type": suite, "value": "unjudged" if found.score is None else round(found.score, 4)}],
    }


def _opening(bundle: Bundle) -> str:
    what = f"the base model {bundle.base_model} with a long prompt"
    if bundle.merged is not None:
        what = f"{bundle.base_model} with the LoRA adapter of bundle `{bundle.parent}` merged into its weights"
    if bundle.adapter is not None:
        what = f"a LoRA adapter of rank {bundle.adapter.rank} for {bundle.base_model}"
    return f"# {bundle.route} {short(bundle.digest)}\n\nThis is {what}, for the route `{bundle.route}`.\n"


def _serving(bundle: Bundle) -> str:
    prompt = "\n".join(f"    {line}" for line in bundle.system_prompt.split("\n"))
    return (
        "## How it is served\n\nIt was evaluated with this system prompt, and is served with it:\n\n"
        f"{prompt}\n\nTemperature {bundle.temperature:g}, at most {bundle.max_tokens} tokens an answer.\n"
    )


def _training(bundle: Bundle, origin: DocumentBasis) -> str:
    if bundle.training is None:
        return ""
    rows = "What the dataset version holds is not known here."
    if origin.dataset is not None:
        found = origin.dataset
        rows = (
            f"Dataset `{found.name}`: {found.read} rows read, {found.kept} kept, {found.duplicates} duplicates, "
            f"{sum(found.rejected.values())} rejected; {found.parts['train'].rows} to train on, "
            f"{found.parts['holdout'].rows} held out."
        )
    settings = "\n".join(f"    {line}" for line in yaml.safe_dump(bundle.training, sort_keys=False).splitlines())
    return f"## How it was trained\n\n{rows} Version `{bundle.dataset_version}`.\n\n{settings}\n"


def _scores(bundle: Bundle) -> str:
    if not bundle.evals:
        return "## Evals\n\nThis bundle was packaged without evals of its own.\n"
    rows = [f"| {name} | {_score(found)} | {found.n} |" for name, found in bundle.evals.items()]
    head = "## Evals\n\nThrough vLLM, with the prompt above; intervals of 95 %.\n\n| suite | score | samples |\n"
    return head + "\n".join(["| --- | --- | --- |", *rows]) + "\n"


def _score(found: SuiteScore) -> str:
    if found.score is None or found.low is None or found.high is None:
        return "not judged"
    return f"{found.score:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _more(bundle: Bundle, origin: DocumentBasis) -> str:
    said = origin.licenses
    licenses = f"base model {said.base_model or 'unknown'}"
    if bundle.trained is not None:
        what = "merged model" if bundle.merged else "adapter"
        licenses += f", training data {said.data or 'unknown'}, {what} {said.adapter or 'unknown'}"
    others = [LICENSES, BILL, PROVENANCE, *([EVAL_REPORT] if origin.report else [])]
    return (
        f"## Licences and origin\n\nLicences: {licenses}.\nBase model: {origin.base_source}, revision "
        f"`{bundle.base_revision}`.\nBeside this file: {', '.join(f'`{name}`' for name in others)}.\n"
    )
