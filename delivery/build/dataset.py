"""The rules of dataset versions, pure: how a row becomes messages, which rows are kept, and who is held out.

Nothing is dropped in silence: a row that is not kept comes back with its reason and the values that spoke against it.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from configs.canonical import digest_of, short
from configs.dataset import DatasetRecipe, Filters, Split
from configs.strict import Strict
from delivery.build.readers import READERS, Message, Unusable

Part = Literal["train", "holdout"]
PARTS: tuple[Part, ...] = ("train", "holdout")


class SourceFile(Strict):
    """One source as it was read; its name without the folder, so that a moved file is still the same file."""

    name: str
    digest: str
    reader: str


class PartSummary(Strict):
    """One part of a version; tokens by the base model's chat template, system prompt included."""

    rows: int
    prompts: int
    tokens_total: int
    tokens_mean: float
    tokens_max: int


class Manifest(Strict):
    """All that determines a version and all that came out; the version's digest is the digest of this."""

    name: str
    recipe: dict[str, Any]  # without the sources' paths
    sources: tuple[SourceFile, ...]
    system_prompt: str  # it counts towards max_row_tokens
    tokenizer: str  # digest
    code: str  # digest of the code that read and filtered the rows
    read: int
    kept: int
    duplicates: int
    rejected: dict[str, int]  # reason -> rows, duplicates not among them
    parts: dict[Part, PartSummary]
    files: dict[str, str]  # name -> digest of its content

    @property
    def digest(self) -> str:
        """`sha256:...`, the version's identity."""
        return digest_of(self.model_dump(mode="json"))


class DatasetVersion(Strict):
    """A version on disk: `folder` holds manifest.json, train.jsonl, holdout.jsonl, rejected.jsonl."""

    digest: str
    folder: Path
    manifest: Manifest

    def render(self) -> str:
        """For the terminal: what became of the rows, and where those lie that were not kept."""
        found = self.manifest
        rejected = sum(found.rejected.values())
        reasons = ", ".join(f"{rows} {reason}" for reason, rows in found.rejected.items())
        text = (
            f"dataset {found.name} {short(self.digest)}: {found.read} rows read, {found.kept} kept "
            f"({found.parts['train'].rows} for training, {found.parts['holdout'].rows} held out), "
            f"{found.duplicates} duplicates, {rejected} rejected{f' ({reasons})' if reasons else ''}"
        )
        lost = rejected + found.duplicates
        return f"{text}\n  these {lost} with their reasons: {self.folder / 'rejected.jsonl'}" if lost else text


@dataclass(frozen=True)
class RawRow:
    """A row as its file has it. `fault` is (reason, detail) when it could not even be read."""

    source: str
    number: int  # line of the file, or row of the table, from 1
    reader: str
    data: Any
    fault: tuple[str, str] | None = None


@dataclass(frozen=True)
class Example:
    """A kept row. `fields` are the row's other columns: evals may use them, training does not."""

    messages: tuple[Message, ...]
    fields: Mapping[str, Any]
    tokens: int

    @property
    def id(self) -> str:
        """16 hex digits of the messages' digest."""
        return short(digest_of(list(self.messages)), 16)

    @property
    def prompt(self) -> str:
        """What the user says first, without differences of case and spacing: the unit of the split."""
        first = next(m["content"] for m in self.messages if m["role"] == "user")
        return " ".join(first.casefold().split())

    def as_row(self) -> dict[str, Any]:
        """The row of train.jsonl or holdout.jsonl."""
        return {"id": self.id, "messages": list(self.messages), "fields": dict(self.fields)}


@dataclass(frozen=True)
class Rejected:
    """A row that was not kept: `reason` is one of a few words to count by, `detail` a sentence with the values."""

    source: str
    row: int
    reason: str
    detail: str
    data: Any


@dataclass(frozen=True)
class Sifted:
    """All rows, each in exactly one of the two."""

    examples: tuple[Example, ...]
    rejected: tuple[Rejected, ...]

    def by_reason(self) -> dict[str, int]:
        """Rejected rows by reason, most frequent first."""
        return dict(Counter(r.reason for r in self.rejected).most_common())


def sift(
    rows: Iterable[RawRow],
    filters: Filters,
    count_tokens: Callable[[Sequence[Message]], int],
    special_tokens: Iterable[str] = (),
) -> Sifted:
    """Every row to an example or to a rejection, in the order of the rows."""
    examples: list[Example] = []
    rejected: list[Rejected] = []
    seen: dict[str, RawRow] = {}
    forbidden = tuple(special_tokens)
    for row in rows:
        try:
            example = _judge(row, filters, count_tokens, forbidden)
            first = seen.setdefault(example.id, row) if filters.drop_exact_duplicates else row
            if first is not row:
                raise Unusable("duplicate", f"the same messages as row {first.number} of {first.source}")
            examples.append(example)
        except Unusable as fault:
            rejected.append(Rejected(row.source, row.number, fault.reason, fault.detail, row.data))
    return Sifted(tuple(examples), tuple(rejected))


def _judge(
    row: RawRow, filters: Filters, count_tokens: Callable[[Sequence[Message]], int], forbidden: tuple[str, ...]
) -> Example:
    if row.fault is not None:
        raise Unusable(*row.fault)
    if not isinstance(row.data, dict):
        raise Unusable("wrong-shape", f"expected an object with named fields, found {type(row.data).__name__}")
    messages, fields = READERS[row.reader](row.data)
    messages = tuple(_normalised(m) for m in messages)
    _check_roles([m["role"] for m in messages])
    _check_contents(messages, filters, forbidden)
    tokens = count_tokens(messages)
    if tokens > filters.max_row_tokens:
        raise Unusable(
            "too-long", f"{tokens} tokens with the system prompt, max_row_tokens is {filters.max_row_tokens}"
        )
    return Example(messages, fields, tokens)


def _check_roles(roles: Sequence[str]) -> None:
    turns = roles[1:] if roles and roles[0] == "system" else roles
    expected = ["user", "assistant"] * (len(turns) // 2)
    if not turns or list(turns) != expected:
        found = ", ".join(roles) or "no messages"
        raise Unusable("wrong-roles", f"expected [system,] user, assistant, user, assistant ..., found {found}")


def _check_contents(messages: Sequence[Message], filters: Filters, forbidden: tuple[str, ...]) -> None:
    for index, message in enumerate(messages):
        where, text = f"messages.{index} ({message['role']})", message["content"]
        if not text:
            raise Unusable("empty-content", f"{where} is empty")
        found = next((token for token in forbidden if token in text), None)
        if found is not None:
            raise Unusable("special-token", f"{where} holds {found!r}, which the chat template would take for its own")
        low, high = filters.min_answer_chars, filters.max_answer_chars
        if message["role"] == "assistant" and not low <= len(text) <= high:
            raise Unusable("answer-length", f"{where} has {len(text)} characters, allowed are {low} to {high}")


def _normalised(message: Any) -> Message:
    """Unicode NFC, one kind of line end, no space around: rows that read the same are the same."""
    text = unicodedata.normalize("NFC", message["content"]).replace("\r\n", "\n").replace("\r", "\n").strip()
    return {"role": message["role"], "content": text}


def divide(examples: Sequence[Example], split: Split) -> dict[Part, tuple[Example, ...]]:
    """Both parts, in the order of the rows. All rows of one prompt go to the same part, whatever else is in the set."""
    ranks = {prompt: _rank(split.salt, prompt) for prompt in {example.prompt for example in examples}}
    if split.holdout_prompts is not None:
        held = set(sorted(ranks, key=lambda prompt: (ranks[prompt], prompt))[: split.holdout_prompts])
    else:
        held = {prompt for prompt, rank in ranks.items() if rank < (split.holdout_share or 0)}
    return {
        "train": tuple(e for e in examples if e.prompt not in held),
        "holdout": tuple(e for e in examples if e.prompt in held),
    }


def _rank(salt: str, prompt: str) -> float:
    """Where a prompt stands in [0, 1)."""
    key = blake2b(salt.encode(), digest_size=32).digest()
    return int.from_bytes(blake2b(prompt.encode(), key=key, digest_size=6).digest()) / 2**48


def recipe_without_paths(recipe: DatasetRecipe) -> dict[str, Any]:
    """What of a recipe belongs to the identity: where the files lie does not, their digests come separately."""
    return recipe.model_dump(mode="json", exclude={"sources"})


def summary_of(examples: Sequence[Example]) -> PartSummary:
    """Counts and token statistics of one part, which is not empty."""
    tokens = [example.tokens for example in examples]
    return PartSummary(
        rows=len(examples),
        prompts=len({example.prompt for example in examples}),
        tokens_total=sum(tokens),
        tokens_mean=round(sum(tokens) / len(tokens), 2),
        tokens_max=max(tokens),
    )
