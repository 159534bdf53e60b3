"""A tick's judged pairs: the sign test of preferences. Ties count half, which is neutral against a limit of one half.

Of a user the first pair that differs counts, as everywhere in shadow (delivery.checks.rates.at_risk). Pairs in which
the judge was swayed by the order, or which it could not judge, are counted and are evidence for nothing.
"""

from delivery.analysis import one_sample, pairs, two_sample
from delivery.analysis.one_sample import OneSample
from delivery.analysis.two_sample import Block
from delivery.checks.judgements import Judged, Preference
from delivery.checks.measurement import Fresh, Measurement, first_hit
from delivery.checks.rates import at_risk

_SIDES: dict[Preference, tuple[float, float]] = {"candidate": (1.0, 0.0), "tie": (0.0, 0.0), "stable": (0.0, 1.0)}
"""By how much stable's answer and the candidate's are the worse one."""


def with_preferences(found: Measurement, fresh: Fresh) -> Measurement:
    """One more tick."""
    if not fresh.judged:
        return found
    known: list[tuple[Judged, float, float]] = [
        (one, *_SIDES[one.preference]) for one in fresh.judged if one.preference in _SIDES
    ]
    chosen, risk = at_risk(known, found.risk, is_left_by_all=False)
    levels = pairs.tally_signs(((stable, candidate) for _, stable, candidate in chosen), 1.0, 0.0)
    won, _, lost = levels
    block, n = Block(stable=(0,) * len(levels), candidate=levels), len(chosen)
    worse, better = found.worse, found.better
    if not (isinstance(worse, OneSample) and isinstance(better, OneSample)):
        raise TypeError(f"{worse.kind} and {better.kind} are no tests of preferences")
    return found.model_copy(
        update={
            "worse": one_sample.update(worse, block),
            "better": one_sample.update(better, block),
            "risk": risk,
            "tally": found.tally.plus(two_sample.counts(n, won, n, lost)),
            "swayed": found.swayed + sum(one.preference == "swayed" for one in fresh.judged),
            "unusable": found.unusable + sum(one.preference == "unclear" for one in fresh.judged),
            "first_hit_at": first_hit(
                found, (one.started_at for one, stable, candidate in chosen if candidate > stable)
            ),
        }
    )
