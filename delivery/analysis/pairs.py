"""Two answers to the same request: in shadow every request is its own control, and what both get wrong says nothing.

A pair of 0/1 outcomes (x_s, x_c) is graded z = (x_c - ratio x_s + ratio) / (1 + ratio) in [0, 1]; the null hypothesis
mean x_c <= ratio mean x_s + increase is mean z <= (ratio + increase) / (1 + ratio), and is tested as any mean against a
limit (delivery.analysis.one_sample; Waudby-Smith, Ramdas, JRSS B 86, 2024). With ratio 1 and increase 0 the limit is
1/2 and concordant pairs multiply every bet by exactly 1: McNemar's comparison of discordant pairs as an e-process.

Typical values are compared by signs: at most half of the pairs have L_c > ratio L_s + increase, ties counting half. So
are a judge's preferences, of which at most a given share may go to stable.
"""

from collections.abc import Iterable

from delivery.analysis.bets import TAIL_LIFTS, Claim
from delivery.analysis.one_sample import Limit

SIGNS = (0.0, 0.5, 1.0)


def rates(ratio: float, increase: float, claim: Claim) -> Limit:
    """The test of paired 0/1 outcomes; the level of (x_s, x_c) is number 2 x_s + x_c."""
    both = 1 + ratio
    return Limit(limit=(ratio + increase) / both, claim=claim, levels=(ratio / both, 1.0, 0.0, 1 / both))


def signs(claim: Claim, limit: float = 0.5) -> Limit:
    """The test of paired values; levels are below, equal, above. Ties are neutral against a limit of one half."""
    return Limit(limit=limit, claim=claim, lifts=TAIL_LIFTS, levels=SIGNS)


def tally_rates(pairs: Iterable[tuple[bool, bool]]) -> tuple[int, ...]:
    """Counts by level of (stable's, the candidate's) outcomes."""
    found = [0] * 4
    for stable, candidate in pairs:
        found[2 * stable + candidate] += 1
    return tuple(found)


def tally_signs(pairs: Iterable[tuple[float, float]], ratio: float, increase: float) -> tuple[int, ...]:
    """Counts by level of (stable's, the candidate's) values."""
    found = [0] * 3
    for stable, candidate in pairs:
        limit = ratio * stable + increase
        found[1 + (candidate > limit) - (candidate < limit)] += 1
    return tuple(found)
