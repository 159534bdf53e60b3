"""Results by slices: the samples of a suite that have one value of a field, and whether one of them became worse.

A slice has few samples, so no slice can be asked to exclude a drop. What can be asked is that none is *shown* to be
worse. Many slices are many chances to seem so: their p-values are corrected together (Benjamini and Hochberg, JRSS B
57, 1995), so that a candidate that is as good as production everywhere is refused in no more than the share
`1 - confidence` of the builds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from configs.evals import SliceGate
from delivery.build.pairs import between, counted
from evals.estimate import Estimate
from evals.report import EvalReport, SuiteResult
from evals.samples import Sample
from evals.summaries import drop_p_value, summarise

FEWEST, MOST = 2, 12  # values of a field that cut a suite into slices

AskedSamples = Mapping[str, Mapping[str, Sample]]  # suite -> sample's id -> the sample


@dataclass(frozen=True)
class Slice:
    """The samples of a suite that have one value of a field."""

    suite: str
    field: str
    value: str
    n: int
    candidate: SuiteResult
    production: SuiteResult
    difference: Estimate | None


def slices(candidate: EvalReport, production: EvalReport, asked: AskedSamples) -> list[Slice]:
    """Every suite by every field of its samples that has a few values."""
    return [
        _slice(new, old, name, value, ids)
        for suite, new in candidate.suites.items()
        if (old := production.suites.get(suite)) is not None and new.measure == "mean"
        for name, values in _fields(asked.get(suite, {}))
        for value, ids in sorted(values.items())
        if any(sample.id in ids for sample in new.samples)
    ]


def _fields(samples: Mapping[str, Sample], only: str | None = None) -> Iterator[tuple[str, dict[str, set[str]]]]:
    """The fields that cut these samples into slices, with the ids of each value; or one field, whatever it has."""
    found: dict[str, dict[str, set[str]]] = {}
    for sample in samples.values():
        for name, value in sample.fields.items():
            if isinstance(value, str | int | bool) and only in (None, name):
                found.setdefault(name, {}).setdefault(str(value), set()).add(sample.id)
    for name, values in found.items():
        if only is not None or FEWEST <= len(values) <= min(MOST, len(samples) // 2):
            yield name, values


def _slice(new: SuiteResult, old: SuiteResult, name: str, value: str, ids: set[str]) -> Slice:
    mine, theirs = (_only(result, ids) for result in (new, old))
    return Slice(new.suite, name, value, len(mine.samples), mine, theirs, between(mine, theirs))


def _only(result: SuiteResult, ids: set[str]) -> SuiteResult:
    samples = [sample for sample in result.samples if sample.id in ids]
    return summarise(result.suite, result.version, result.kind, samples, result.measure, result.better)


class SlicesFound(NamedTuple):
    """What became of one `slices` of a gate: whether a slice is shown to be worse, and what was seen."""

    worse: bool
    sentence: str
    blind: str  # why no slice, however bad, could be shown to be worse; "" when one could


def judge_slices(
    gate: SliceGate, confidence: float, new: SuiteResult, old: SuiteResult, samples: Mapping[str, Sample]
) -> SlicesFound | str:
    """Whether one of the slices dropped by more than the gate allows; a text says why that cannot be told."""
    found = list(_sliced(gate.field, new, old, samples))
    if not found:
        known = sorted({name for sample in samples.values() for name in sample.fields})
        return f"no sample has the field {gate.field!r}; known are {', '.join(known) or 'none'}"
    if any(one.difference is None for one in found):
        return f"a slice of {gate.field} has no answer that could be judged"
    adjusted = _adjusted([_p_value(one.candidate, one.production, gate.max_drop) for one in found])
    level = 1 - confidence
    lost = [(p, one) for p, one in zip(adjusted, found, strict=True) if p <= level]
    able = sum(_smallest_p(one, gate.max_drop) <= level for one in found)
    small = f", {len(found) - able} of them with too few samples to show anything" if able < len(found) else ""
    of = f"{len(found)} slices by {gate.field}{small}; corrected together"
    if lost:
        named = "; ".join(f"{_told(one)}, p {p:.3f}" for p, one in sorted(lost, key=lambda pair: pair[0]))
        return SlicesFound(True, f"{named}: it drops by more than the allowed {gate.max_drop:.2f} ({of})", "")
    p, nearest = min(zip(adjusted, found, strict=True), key=lambda pair: pair[0])
    sentence = f"no slice is shown to drop by more than {gate.max_drop:.2f}; nearest {_told(nearest)}, p {p:.2f} ({of})"
    return SlicesFound(False, sentence, "" if able else f"no slice by {gate.field} has samples enough to show a drop")


def _sliced(field: str, new: SuiteResult, old: SuiteResult, samples: Mapping[str, Sample]) -> Iterator[Slice]:
    for name, values in _fields(samples, field):
        for value, ids in sorted(values.items()):
            if any(sample.id in ids for sample in new.samples):
                yield _slice(new, old, name, value, ids)


def _p_value(new: SuiteResult, old: SuiteResult, margin: float) -> float:
    mine, theirs = ([one.score or 0.0 for one in scores] for scores in (counted(new, "wrong"), counted(old, "right")))
    return drop_p_value(mine, theirs, margin) if new.better == "higher" else drop_p_value(theirs, mine, margin)


def _smallest_p(one: Slice, margin: float) -> float:
    """Of a slice in which everything became wrong."""
    return drop_p_value([0.0] * one.n, [1.0] * one.n, margin)


def _adjusted(p_values: Sequence[float]) -> list[float]:
    from scipy.stats import false_discovery_control  # slow to import, and few gates have slices

    return [float(p) for p in false_discovery_control(p_values, method="bh")]


def _told(one: Slice) -> str:
    found = one.difference or Estimate(0.0, 0.0, 0.0, 0)
    return f"{one.value} (n={one.n}, difference {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}])"
