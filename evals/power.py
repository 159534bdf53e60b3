"""What a gate over so many samples can show at all: known before anything is trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor

from configs.evals import Gate
from evals.report import SampleScore
from evals.summaries import difference, mean, paired_bounds

USUAL = 0.1  # the share of samples on which two equally good models differ, half of them each way


@dataclass(frozen=True)
class Reach:
    """What one limit of a gate can show.

    `is_blind`: no candidate can be shown to keep it; of a `max_drop`, none that is just as good as production.
    """

    suite: str
    is_blind: bool
    sentence: str


def smallest_drop(n: int, confidence: float = 0.95, disagreeing: float = 0.0) -> float:
    """The smallest `max_drop` that a candidate as good as production passes with n scores of 0 or 1.

    `disagreeing` is the share of samples, from 0 to 1, on which the two differ, half of them each way; 0 is the best
    case. A smaller margin refuses every candidate that is not better. n is at least 1.
    """
    changed = round(n * disagreeing / 2)
    return -paired_bounds(changed, changed, n, confidence)[0]


def samples_for(max_drop: float, confidence: float = 0.95, disagreeing: float = 0.0) -> int:
    """How many samples it takes until `smallest_drop` is no more than this margin, which is above 0."""
    low, high = 0, 1
    while smallest_drop(high, confidence, disagreeing) > max_drop:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if smallest_drop(middle, confidence, disagreeing) <= max_drop else (middle, high)
    return high


def best_difference(measure: str, samples: Sequence[SampleScore], confidence: float) -> tuple[float, float]:
    """The lower ends of two intervals that no candidate can exceed on so many samples, which are right or wrong: of one
    that is exactly as good as production, and of one that is right everywhere where production is wrong everywhere.
    """
    n = len(samples)
    if measure != "mean":
        right = [sample.model_copy(update={"said": sample.expected}) for sample in samples]
        wrong = [sample.model_copy(update={"said": ""}) for sample in samples]
        return difference(measure, right, right, confidence).low, difference(measure, right, wrong, confidence).low
    return -smallest_drop(n, confidence), paired_bounds(n, 0, n, confidence)[0]


def reach(gate: Gate, n: int) -> Iterator[Reach]:
    """What each limit of a gate can show with n samples that are right or wrong; n is at least 1."""
    if gate.min_score is not None:
        yield _scores(gate, n, gate.min_score, is_floor=True)
    if gate.max_score is not None:
        yield _scores(gate, n, gate.max_score, is_floor=False)
    if gate.max_drop is not None:
        yield _drops(gate, n, gate.max_drop)
    if gate.min_gain is not None:
        most = paired_bounds(n, 0, n, gate.confidence)[0]
        is_blind = most <= gate.min_gain
        what = f"no candidate can be shown to gain more than {most:.3f}" if is_blind else f"shows up to {most:.3f}"
        yield Reach(gate.suite, is_blind, f"{gate.suite}: with {n} samples min_gain {gate.min_gain:g}: {what}")


def _drops(gate: Gate, n: int, allowed: float) -> Reach:
    least, usual = (smallest_drop(n, gate.confidence, share) for share in (0.0, USUAL))
    if least > allowed:
        more = f"it takes {samples_for(allowed, gate.confidence)} samples, or" if allowed > 0 else "it takes"
        return Reach(
            gate.suite,
            True,
            f"{gate.suite}: with {n} samples a candidate as good as production cannot pass max_drop {allowed:g}: the "
            f"smallest drop that can be excluded is {least:.3f}; {more} a max_drop of {least:.3f}",
        )
    sentence = f"{gate.suite}: with {n} samples max_drop {allowed:g}: a drop of {least:.3f} is excluded where all agree"
    if usual <= allowed:
        return Reach(gate.suite, False, f"{sentence}, of {usual:.3f} where one in ten differs from production")
    needed = samples_for(allowed, gate.confidence, USUAL)
    return Reach(
        gate.suite,
        False,
        f"{sentence}; where one in ten differs from production either way an equal candidate needs a max_drop of "
        f"{usual:.3f}, or {needed} samples",
    )


def _scores(gate: Gate, n: int, value: float, *, is_floor: bool) -> Reach:
    """How many right (or, where lower is better, wrong) answers a limit asks for, and what passing it excludes."""
    counts = range(n + 1) if is_floor else range(n, -1, -1)
    name, whole = ("min_score", "at least") if is_floor else ("max_score", "at most")
    said = f"{gate.suite}: with {n} samples {name} {value:g}{', strict,' if gate.strict else ''}"
    if not gate.strict:
        count = ceil(value * n - 1e-9) if is_floor else floor(value * n + 1e-9)
    else:
        kept = [one for one in counts if _keeps(one, n, value, gate.confidence, is_floor)]
        if not kept:
            found = mean([1.0 if is_floor else 0.0] * n, gate.confidence)
            bound = found.low if is_floor else found.high
            told = f"{said} no candidate can pass: the best that its interval can show is {bound:.3f}"
            return Reach(gate.suite, True, told)
        count = kept[0]
    found = mean([1.0] * count + [0.0] * (n - count), gate.confidence)
    excluded = f"below {found.low:.2f}" if is_floor else f"above {found.high:.2f}"
    return Reach(gate.suite, False, f"{said} takes {whole} {count}; that many exclude a true score {excluded}")


def _keeps(count: int, n: int, value: float, confidence: float, is_floor: bool) -> bool:
    found = mean([1.0] * count + [0.0] * (n - count), confidence)
    return found.low >= value if is_floor else found.high <= value
