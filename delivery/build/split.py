"""Who is held out: all rows of one prompt (or of one group, such as a user) are on the same side, as the data grows.

Only numbers of 64 bits are kept of each row, so that a million rows take some 100 MB.
"""

import heapq
import re
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from configs.canonical import canonical_json
from configs.dataset import Split
from delivery.build.layouts.row import Unusable
from delivery.build.rows import Example

_MARKS = r"[.,;:!?…\"'“”‘’()¿¡]+"
_AT_AN_EDGE = re.compile(rf"(?:(?<=\s)|^){_MARKS}|{_MARKS}(?=\s|$)")  # 1.5 and 15 are two prompts


class Splitter:
    """Takes the kept rows in their order, then says of each whether it is held out."""

    def __init__(self, split: Split):
        self.split = split
        self._key = blake2b(split.salt.encode(), digest_size=32).digest()
        self._ranks: dict[int, int] = {}  # unit -> the smallest rank of its members
        self._units, self.prompts = array("Q"), array("Q")

    def add(self, example: Example) -> None:
        """Prompts that differ in case, spacing and punctuation alone are one unit, ranked by the first of them."""
        prompt = example.prompt
        ranked = prompt if self.split.group_by is None else group_of(example, self.split.group_by)
        words = _hash(bare(prompt))
        unit = words if self.split.group_by is None else _hash(ranked)
        rank = int.from_bytes(blake2b(ranked.encode(), key=self._key, digest_size=6).digest())
        self._ranks[unit] = min(rank, self._ranks.get(unit, rank))
        self._units.append(unit)
        self.prompts.append(words)

    def held_out(self) -> Sequence[bool]:
        """One for each row that was added."""
        if self.split.holdout_prompts is not None:
            chosen = heapq.nsmallest(self.split.holdout_prompts, ((rank, unit) for unit, rank in self._ranks.items()))
            held = {unit for _, unit in chosen}
        else:
            limit = (self.split.holdout_share or 0) * 2**48
            held = {unit for unit, rank in self._ranks.items() if rank < limit}
        return [unit in held for unit in self._units]

    @property
    def units(self) -> int:
        """How many prompts or groups there are."""
        return len(self._ranks)


def divide(examples: Sequence[Example], split: Split) -> dict[str, tuple[Example, ...]]:
    """Both parts, `train` and `holdout`, in the order of the rows."""
    splitter = Splitter(split)
    for example in examples:
        splitter.add(example)
    held = splitter.held_out()
    return {
        "train": tuple(e for e, out in zip(examples, held, strict=True) if not out),
        "holdout": tuple(e for e, out in zip(examples, held, strict=True) if out),
    }


def group_of(example: Example, name: str) -> str:
    """The group of a row by the recipe's `group_by`. Raises Unusable for a row without one."""
    found: Any = example.fields
    for part in [name] if name in example.fields else name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if found in (None, ""):
        known = sorted(map(str, example.fields))
        raise Unusable("no-group", f"split.group_by is {name!r}, and the row has no such field among {known}")
    return found if isinstance(found, str) else canonical_json(found).decode()


def bare(prompt: str) -> str:
    """A prompt without marks around its words; the prompt itself where nothing else is in it."""
    return " ".join(_AT_AN_EDGE.sub(" ", prompt.casefold()).split()) or prompt


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
