"""`slipway init`: a project folder, every file commented, from a look at the data and the base model."""

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from configs.dataset import Source
from configs.errors import ConfigError, SlipwayError
from delivery.build.guess import Guess, GuessedKind, guess
from delivery.clients.fresh_folder import explained_writes, fresh_folder
from tasks.data.reading import first_rows
from tasks.data.sources import locate_all
from tasks.projects.kinds import KINDS
from tasks.projects.models import BaseModel, described
from tasks.training.template import usual_settings

TEMPLATES = Path(__file__).parents[2] / "configs" / "templates"
EXAMPLE = TEMPLATES / "example.jsonl"  # for a project that has no rows yet
LOOKED_AT = 2000  # rows
ROUTE = re.compile(r"[a-z0-9][a-z0-9._-]*")
BYTES_A_TOKEN = 2.5  # fewer than any usual text has: too long a limit costs nothing, too short a one rows
SAMPLES = 60  # held-out rows that a gate of max_drop 0.1 wants
LEAST_HELD_OUT, MOST_HELD_OUT = 0.05, 0.3
PROMPT_TOKENS = 96  # what system prompt and chat template add to a row


class _Template(Template):
    delimiter = "%"  # a dollar sign is YAML's reader's own: ${NAME} comes from the environment


def init(
    folder: Path,
    data: Path | None = None,
    model: str | None = None,
    kind: GuessedKind | None = None,
    question: str | None = None,
    answer: str | None = None,
) -> tuple[Path, Guess | None]:
    """Writes the folder, whole or not at all. Raises SlipwayError that names the option to give."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        cure = "name a folder that does not exist yet, or an empty one"
        raise SlipwayError(f"{folder} is there already, and is not overwritten", where="NAME", cure=cure)
    route = folder.absolute().name.lower()
    if not ROUTE.fullmatch(route):
        cure = "letters, digits, dots, hyphens and underscores: it is the model name that clients ask for"
        raise ConfigError(f"{folder.name!r} cannot be a route", where="NAME", cure=cure)
    found = _look(data, kind, question, answer) if data is not None else None
    files = _files(route, data, model, found, (found.kind if found else kind) or "chat")
    with (
        explained_writes(folder.absolute().parent, "the project"),
        fresh_folder(folder.absolute().parent, route) as fresh,
    ):
        for name, text in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_text(text, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        fresh.chmod(0o755)
        fresh.rename(folder)
    return folder, found


def _look(data: Path, kind: GuessedKind | None, question: str | None, answer: str | None) -> Guess:
    located = locate_all([Source(path=data.absolute())], Path())
    found = itertools.chain.from_iterable(first_rows(one, LOOKED_AT) for one in located)
    rows = list(itertools.islice(found, LOOKED_AT))
    objects = [row for row in rows if isinstance(row, Mapping)]
    if not objects:
        is_empty = not any(one.path is None or one.path.stat().st_size for one in located)
        what = "is empty" if is_empty else "holds no row with named fields" if rows else "holds no row that can be read"
        cure = "give it rows: one JSON object a line, or a table whose first line names the fields"
        raise SlipwayError(f"{data} {what}", where="--data", cure=cure)
    return guess(objects, kind, question, answer)


def _files(route: str, data: Path | None, model: str | None, found: Guess | None, kind: GuessedKind) -> dict[str, str]:
    base = described(model)
    longest = _sequence_tokens(found, base.context_tokens)
    parts = KINDS[kind](found)
    values = {
        "route": route,
        "model": base.yaml,
        "max_context_tokens": min(base.context_tokens, max(1024, 2 * longest)),
        "max_sequence_tokens": longest,
        "source": _source(data, found),
        "holdout_share": f"{_holdout_share(found):g}",
        "epochs": "2.0" if found is None or found.rows < LOOKED_AT else "1.0",
        "base_prompt": _block(parts.base_prompt),
        "adapter_prompt": _block(parts.adapter_prompt),
        "max_tokens": parts.max_tokens,
        "template_settings": _template_settings(base, found is not None and found.has_reasoning),
        "checks": parts.checks,
        "behaviour": "\n".join(f"  - {name}" for name in parts.gates),
        "gates": "\n".join(f"  - suite: {name}\n{text}" for name, text in parts.gates.items()),
    }
    texts = {path.name: path.read_text("utf-8") for path in (TEMPLATES / "all").iterdir()}
    files = {name: _Template(text).substitute(values).rstrip("\n") + "\n" for name, text in texts.items()}
    files |= parts.files
    return files if data is not None else files | {f"data/{EXAMPLE.name}": EXAMPLE.read_text("utf-8")}


def _holdout_share(found: Guess | None) -> float:
    """So that the gate has samples enough to show a drop of a tenth, as far as the rows reach."""
    if found is None:
        return 0.5
    return round(min(MOST_HELD_OUT, max(LEAST_HELD_OUT, SAMPLES / found.rows)), 2)


def _sequence_tokens(found: Guess | None, context: int) -> int:
    """A power of two with room for the longest row seen; `slipway check` says how long rows really are."""
    needed = (found.longest_bytes / BYTES_A_TOKEN if found else 256) + PROMPT_TOKENS
    size = 128
    while size < min(needed, context):
        size *= 2
    return min(context, size)


def _source(data: Path | None, found: Guess | None) -> str:
    if data is None or found is None:
        return f"  - path: data/{EXAMPLE.name}\n    reader: messages"
    lines = [f"  - path: {json.dumps(str(data.absolute()), ensure_ascii=False)}"]
    if found.reader is not None:
        return "\n".join([*lines, f"    reader: {found.reader}"])
    lines.append(
        "    messages: # {field} is a row's field; {field|lettered}, {field|letter} and {field|json} write it so"
    )
    for turn in found.turns:
        lines += [f"      - role: {turn.role}", "        content: |-"]
        lines += [f"          {line}" for line in turn.content.split("\n")]
    return "\n".join(lines)


def _template_settings(base: BaseModel, reasoning: bool) -> str:
    """The settings without which this base model would think aloud unasked, or be asked otherwise every day."""
    settings = usual_settings(base.template, reasoning) if base.template else {}
    if not settings:
        return ""
    lines = ["chat_template_kwargs: # of the base model's template: in training, in evals and with every request"]
    for name, value in settings.items():
        thinking = "the rows hold reasoning" if value else "the rows hold no reasoning"
        why = thinking if name == "enable_thinking" else "or the template writes another date every day"
        lines.append(f"  {name}: {json.dumps(value)} # {why}")
    return "\n".join(lines)


def _block(text: str) -> str:
    """Text as the lines of a folded block."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) > 110:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join(f"  {one}" for one in [*lines, line])
