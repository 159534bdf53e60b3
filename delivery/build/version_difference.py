"""What changed between two dataset versions: recipe, sources, rows, how long rows are, and what their fields hold."""

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from configs.canonical import canonical_json, short
from delivery.build.dataset import Manifest, Part

_WORD = re.compile(r"\w+")
QUANTILES = (0.05, 0.5, 0.95)
MOST_VALUES = 1000  # of a field; one with more tells rows apart rather than kinds of rows
SHOWN = 5
TELLING_SHIFT = 0.05  # of a share


@dataclass
class RowFacts:
    """What is compared of a version's rows: some 20 bytes a row."""

    part_of: dict[int, Part] = field(default_factory=dict)  # a row's id as a number -> where it is
    words: dict[str, "array[int]"] = field(default_factory=lambda: {"prompt": array("I"), "answer": array("I")})
    values: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, part: Part, row: Mapping[str, Any]) -> None:
        """A row of train.jsonl or holdout.jsonl."""
        self.part_of[int(row["id"], 16)] = part
        said = [*row.get("messages", ()), *row.get("prompt", ()), *row.get("chosen", ())]
        for name, role in (("prompt", "user"), ("answer", "assistant")):
            text = " ".join(message["content"] for message in said if message["role"] == role)
            self.words[name].append(len(_WORD.findall(text)))
        for name, value in row["fields"].items():
            counts = self.values.setdefault(name, Counter())
            if len(counts) <= MOST_VALUES:
                counts[value if isinstance(value, str) else canonical_json(value).decode()] += 1


@dataclass(frozen=True)
class VersionDifference:
    """`rows`: what became of them, in a few words -> how many. `shifts`: sentences on what is distributed otherwise."""

    before: str
    after: str
    recipe: tuple[str, ...]
    sources: tuple[str, ...]
    rows: Mapping[str, int]
    added: tuple[str, ...]  # ids, the first few
    removed: tuple[str, ...]
    shifts: tuple[str, ...]
    same: tuple[str, ...]  # what was compared and is not told apart

    def render(self) -> str:
        """For people."""
        lines = [f"dataset versions {short(self.before)} -> {short(self.after)}"]
        lines += [f"  recipe: {text}" for text in self.recipe or ("the same",)]
        lines += [f"  source: {text}" for text in self.sources or ("the same files",)]
        lines.append("  rows: " + ", ".join(f"{count} {what}" for what, count in self.rows.items()))
        lines += [f"  {what}: {_some(ids)}" for what, ids in (("added", self.added), ("removed", self.removed)) if ids]
        lines += [f"  shifted: {text}" for text in self.shifts]
        lines += [f"  not told apart: {', '.join(self.same)}"] if self.same else []
        return "\n".join(lines)


def compare_versions(before: Manifest, after: Manifest, old: RowFacts, new: RowFacts) -> VersionDifference:
    """`old` and `new` are the facts of all rows of either version."""
    gone, come = old.part_of.keys() - new.part_of.keys(), new.part_of.keys() - old.part_of.keys()
    stay = old.part_of.keys() & new.part_of.keys()
    moved = Counter((old.part_of[row], new.part_of[row]) for row in stay if old.part_of[row] != new.part_of[row])
    rows = {
        "added": len(come),
        "removed": len(gone),
        "the same": len(stay) - moved.total(),
        "moved to the training part": moved["holdout", "train"],
        "moved to the held-out part": moved["train", "holdout"],
    }
    shifts, same = [], []
    for name, told in [*_lengths(old, new), *_fields(old, new)]:
        shifts += [told] if told else []
        same += [] if told else [name]
    return VersionDifference(
        before=before.digest,
        after=after.digest,
        recipe=tuple(_settings(_recipe(before), _recipe(after))),
        sources=tuple(_sources(before, after)),
        rows=rows,
        added=tuple(f"{row:016x}" for row in sorted(come)[: SHOWN + 1]),
        removed=tuple(f"{row:016x}" for row in sorted(gone)[: SHOWN + 1]),
        shifts=tuple(shifts),
        same=tuple(same),
    )


def _recipe(manifest: Manifest) -> dict[str, Any]:
    steps = {step.name: {"version": step.version, "code": short(step.code), **step.packages} for step in manifest.steps}
    more = {
        "code": short(manifest.code),
        "tokenizer": short(manifest.tokenizer),
        "system_prompt": manifest.system_prompt,
    }
    return {**manifest.recipe, "steps": steps, **more}


def _settings(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """A line for each setting that differs; what only one version has is told as a whole."""
    for name in sorted(old.keys() | new.keys()):
        first, second, where = old.get(name), new.get(name), f"{path}{name}"
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            yield from _settings(first, second, f"{where}.")
        elif first != second or (name in old) != (name in new):
            yield f"{where}: {_said(old, name)} -> {_said(new, name)}"


def _said(values: Mapping[str, Any], name: str) -> str:
    return canonical_json(values[name]).decode() if name in values else "not set"


def _sources(before: Manifest, after: Manifest) -> Iterator[str]:
    old, new = ({one.name: one for one in manifest.sources} for manifest in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield f"{name} is not read any more"
        elif name not in old:
            yield f"{name} is new, read as {new[name].reader}"
        elif old[name] != new[name]:
            what = "has other content" if old[name].digest != new[name].digest else "is read in another way"
            yield f"{name} {what}"


def _lengths(old: RowFacts, new: RowFacts) -> Iterator[tuple[str, str]]:
    """By the two-sample test of Kolmogorov and Smirnov: told apart where chance makes it so in 1 of 1,000."""
    from scipy.stats import ks_2samp

    for name in old.words:
        first, second = old.words[name], new.words[name]
        found = ks_2samp(first, second) if len(first) and len(second) else None
        if found is None or found.pvalue >= 0.001:
            yield f"words of the {name}", ""
        else:
            told = f"words of the {name}: {_quantiles(first)} -> {_quantiles(second)}"
            yield name, f"{told} (distance {found.statistic:.2f}, p {found.pvalue:.1g})"


def _quantiles(values: Sequence[int]) -> str:
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in QUANTILES]
    return f"5 % {at[0]}, half {at[1]}, 95 % {at[2]}"


def _fields(old: RowFacts, new: RowFacts) -> Iterator[tuple[str, str]]:
    """Fields of few values: those whose share of the rows changed by five points or more."""
    for name in sorted(old.values.keys() | new.values.keys()):
        first, second = old.values.get(name, Counter()), new.values.get(name, Counter())
        if max(len(first), len(second)) > MOST_VALUES:
            continue
        totals = max(1, len(old.part_of)), max(1, len(new.part_of))
        shares = {
            value: (first[value] / totals[0], second[value] / totals[1]) for value in first.keys() | second.keys()
        }
        far = [(abs(b - a), value, a, b) for value, (a, b) in shares.items() if abs(b - a) >= TELLING_SHIFT]
        shown = ", ".join(f"{value!r:.60} {a:.0%} -> {b:.0%}" for _, value, a, b in sorted(far, reverse=True)[:SHOWN])
        yield f"field {name}", f"field {name}: {shown}" if far else ""


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")
