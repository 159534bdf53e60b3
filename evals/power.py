"""What a gate over so many samples can show at all: known before anything is trained."""

from collections.abc import Iterator

from evals.summaries import paired_bounds


def smallest_drop(n: int, confidence: float = 0.95, disagreeing: float = 0.0) -> float:
    """The smallest `max_drop` that a candidate as good as production passes with n scores of 0 or 1.

    `disagreeing` is the share of samples, from 0 to 1, on which the two differ, half of them each way; 0 is the best
    case. A smaller margin refuses every candidate, however good. n is at least 1.
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


def told(suite: str, n: int, max_drop: float, confidence: float = 0.95) -> Iterator[str]:
    """What speaks against a margin over n samples, as sentences; nothing when an equal candidate can pass it."""
    least = smallest_drop(n, confidence)
    if least > max_drop:
        needed = samples_for(max_drop, confidence)
        yield (
            f"{suite}: with {n} samples no candidate can pass max_drop {max_drop:g}: the smallest drop that can be "
            f"excluded is {least:.3f}; it takes {needed} samples, or a max_drop of {least:.3f}"
        )
        return
    usual = smallest_drop(n, confidence, 0.1)
    if usual > max_drop:
        needed = samples_for(max_drop, confidence, 0.1)
        yield (
            f"{suite}: with {n} samples, of which one in ten differs from production either way, an equal candidate "
            f"needs a max_drop of {usual:.3f}; for {max_drop:g} it takes {needed} samples"
        )
