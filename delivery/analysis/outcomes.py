"""From single requests to blocks: who counts, when, and how often.

Three rules keep a block's two arms comparable:

- Only requests that started after the candidate got its share count, in both arms. Otherwise the candidate's first
  blocks hold fast outcomes alone, as slow ones are still under way, while stable's hold both.
- A user who sticks to a variant counts until the first hit and then leaves the risk set, for either arm: the failures
  of one unlucky user are one piece of evidence. A user counts once per block, whatever the number of requests, so that
  a block's size does not depend on its outcomes. Requests without a user count one by one.
- Durations are judged by cohorts of the same age: when a request is `horizon_s` old it is known whether it exceeds its
  limit, ended or not. Judging ended requests earlier would favour the arm with the later limit.

A logical request is given once, whatever its retries; times are UNIX seconds of one clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from configs.strict import Strict
from delivery.analysis.two_sample import Block, counts

Arm = Literal["stable", "candidate"]


@dataclass(frozen=True)
class Trial:
    """One request's outcome; `user` is "" when there is none."""

    arm: Arm
    user: str
    started_at: float
    hit: bool


class RiskSet(Strict):
    """The users of one check who had their hit, sorted."""

    left: tuple[str, ...] = ()


def block_of(trials: Iterable[Trial], risk: RiskSet, since: float) -> tuple[Block, RiskSet]:
    """A tick's trials as (misses, hits) of users at risk, and who is at risk afterwards."""
    gone = set(risk.left)
    size = {"stable": 0, "candidate": 0}
    hits = {"stable": 0, "candidate": 0}
    users: dict[tuple[Arm, str], bool] = {}
    for trial in trials:
        if trial.started_at < since or trial.user in gone:
            continue
        if trial.user:
            key = trial.arm, trial.user
            users[key] = users.get(key, False) or trial.hit
        else:
            size[trial.arm] += 1
            hits[trial.arm] += trial.hit
    for (arm, user), hit in users.items():
        size[arm] += 1
        hits[arm] += hit
        if hit:
            gone.add(user)
    block = counts(size["stable"], hits["stable"], size["candidate"], hits["candidate"])
    return block, risk if len(gone) == len(risk.left) else RiskSet(left=tuple(sorted(gone)))


class Timed(Strict):
    """One request's duration in seconds: the whole one, or so far when it is still in flight."""

    arm: Arm
    user: str
    started_at: float
    lasted_s: float


class Cohorts(Strict):
    """Up to which start time requests were judged, and the ended ones that are not old enough yet."""

    settled_until: float  # at first: when the candidate got its share
    young: tuple[Timed, ...] = ()


def settle(
    cohorts: Cohorts, ended: Iterable[Timed], in_flight: Iterable[Timed], horizon_s: float, now: float
) -> tuple[list[Timed], Cohorts]:
    """The requests that came of age, and the cohorts without them.

    `ended` are new since the last call; a request that ended before it was seen to be of age is judged by its whole
    duration, one in flight by its age.
    """
    until = max(cohorts.settled_until, now - horizon_s)
    known = [item for item in (*cohorts.young, *ended) if item.started_at >= cohorts.settled_until]
    due = [item for item in (*known, *in_flight) if cohorts.settled_until <= item.started_at < until]
    young = tuple(item for item in known if item.started_at >= until)
    return due, Cohorts(settled_until=until, young=young)


def exceedances(due: Iterable[Timed], stable_s: float, candidate_s: float) -> list[Trial]:
    """Whether each request of a cohort took longer than its arm's limit."""
    limit: dict[Arm, float] = {"stable": stable_s, "candidate": candidate_s}
    return [Trial(item.arm, item.user, item.started_at, item.lasted_s > limit[item.arm]) for item in due]


def first_of_users(due: Iterable[Timed], seen: RiskSet) -> tuple[list[Timed], RiskSet]:
    """For values rather than hits every user counts once: with the first request. Requests without a user all count."""
    known = set(seen.left)
    first: list[Timed] = []
    for item in sorted(due, key=lambda item: item.started_at):
        if item.user not in known:
            first.append(item)
            if item.user:
                known.add(item.user)
    return first, seen if len(known) == len(seen.left) else RiskSet(left=tuple(sorted(known)))
