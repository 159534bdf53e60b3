"""Releases that deserve no blame, through the very rules that decide: nobody asks, or both variants misbehave alike."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from configs.routing import FULL_BP, Route, RoutingTable, Variant
from delivery.release.decide import decide, new_state
from delivery.release.routes import alone
from delivery.release.state import GatewaySeen, Observation, Quarantine, ReleaseState, ReplicaSeen, Served, SetTable
from delivery.traffic.assignment import assign
from delivery.traffic.records import AttemptRole, Record, RecordPage

VLLM = "http://vllm"
MOST_TICKS = 900
OLD, NEW = (
    Served(bundle=f"sha256:{name}", name=name, variant=Variant(model=name, upstreams=(VLLM,)), adapter_path=f"/{name}")
    for name in ("old", "new")
)


@dataclass(frozen=True)
class Blame:
    """What many releases came to. `blamed`: rolled back as bad, and so quarantined."""

    releases: int
    live: int
    rolled_back: int
    blamed: int

    @property
    def ends(self) -> dict[str, int]:
        """How they ended."""
        return {"live": self.live, "taken back": self.rolled_back}


@dataclass(frozen=True)
class Surroundings:
    """Who asks how often, and how often either variant answers badly. `ends_at_s`: nobody asks from then on.

    `stable_bad_rate`: of stable, where it is not the same.
    """

    users: int
    requests_per_s: float
    bad_rate: float
    ends_at_s: float = float("inf")
    stable_bad_rate: float | None = None


def without_traffic(releases: int, seed: int = 12) -> Blame:
    """No traffic at all, traffic that ends, and so few users that a canary may reach nobody."""
    every = [_plan((1000, 5000), 0.05), _plan((200, 2000), 0.05)]
    return _many(releases, seed, every, lambda rng: Surroundings(
        users=rng.choice((1, 3, 10)),
        requests_per_s=rng.choice((0.0, 0.02, 0.2, 1.0)),
        bad_rate=0.0,
        ends_at_s=rng.choice((0.0, 20.0, 120.0, float("inf"))),
    ))  # fmt: skip


def equal_misbehaviour(releases: int, seed: int = 13) -> Blame:
    """Both variants fail the same share of requests, beyond the plan's absolute limit or not."""
    every = [_plan((1000, 5000), 0.25), _plan((2000, 5000), 0.1)]
    return _many(releases, seed, every, lambda rng: Surroundings(
        users=rng.choice((50, 500)), requests_per_s=rng.choice((5.0, 20.0)), bad_rate=rng.choice((0.02, 0.1, 0.3, 0.8))
    ))  # fmt: skip


def release_in(around: Surroundings, seed: int) -> tuple[ReleaseState, bool]:
    """One release in given surroundings; whether its bundle was quarantined."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    return _release(_plan((1000, 5000), 0.25), around, rng, f"one-{seed}")


def _plan(canaries: tuple[int, ...], limit: float) -> RolloutPlan:
    return RolloutPlan(
        max_hold_s=60,
        drain_s=0,
        stages=(
            Stage(kind="shadow", mirror_bp=2000, max_duration_s=200),
            *(Stage(kind="canary", share_bp=share, max_duration_s=200) for share in canaries),
            Stage(kind="full", share_bp=9000, max_duration_s=200),
        ),
        checks=(
            Check(metric="error_rate", max=limit),
            Check(metric="error_rate", max_increase=0.1, stages=("shadow", "canary")),
        ),
    )


def _many(releases: int, seed: int, plans: list[RolloutPlan], drawn: Callable[[random.Random], Surroundings]) -> Blame:
    live = back = blamed = 0
    for number in range(releases):
        rng = random.Random(f"{seed}-{number}")  # noqa: S311 - a simulation
        state, is_blamed = _release(rng.choice(plans), drawn(rng), rng, f"r{seed}-{number}")
        live, back = live + (state.phase == "live"), back + (state.phase == "rolled_back")
        blamed += is_blamed
    return Blame(releases, live, back, blamed)


def _release(plan: RolloutPlan, around: Surroundings, rng: random.Random, name: str) -> tuple[ReleaseState, bool]:
    """One release to its end, tick by tick; whether its bundle was quarantined."""
    table = RoutingTable(revision=1, routes={"tutor": alone(OLD, "start", "start/old")})
    state, records, blamed = new_state(name, "local", "tutor", NEW, OLD, 0.0), list[Record](), False
    replica = ReplicaSeen(listed=frozenset(("old", "new")), verified=frozenset(("old", "new")))
    for tick in range(1, MOST_TICKS):
        if tick < around.ends_at_s:
            records += _asked(table.routes["tutor"], around, rng, tick, len(records))
        read = state.evidence.cursors["gw"].seq if "gw" in state.evidence.cursors else 0
        page = RecordPage(
            boot_id="b",
            now=float(tick),
            revision=table.revision,
            lease_remaining_s=None,
            records=tuple(records[read:]),
            in_flight=(),
            dropped=0,
            last_seq=len(records),
        )
        seen = GatewaySeen(table=table, pages=(page,))
        decision = decide(plan, state, Observation(gateways={"gw": seen}, replicas={VLLM: replica}), float(tick))
        state = decision.state
        for action in decision.actions:
            table = action.table if isinstance(action, SetTable) else table
            blamed = blamed or isinstance(action, Quarantine)
        if state.phase in ("live", "rolled_back"):
            break
    return state, blamed


def _asked(route: Route, around: Surroundings, rng: random.Random, tick: int, seq: int) -> Iterator[Record]:
    """One second of users, each with the variant that the gateway would give them."""
    count = int(around.requests_per_s) + (rng.random() < around.requests_per_s % 1)
    for _ in range(count):
        user = f"u{rng.randrange(around.users)}"
        chosen = assign(route, user, True)
        is_bad = rng.random() < around.bad_rate
        ok = not is_bad
        answers: list[tuple[str, AttemptRole]] = [(chosen, "served")]
        if route.candidate is not None and route.candidate.share_bp == 0:
            if rng.random() < route.candidate.mirror_bp / FULL_BP:
                answers.append((route.candidate.variant, "mirror"))  # the same request, which fails there as well
        elif chosen != route.stable and not ok:
            answers.append((route.stable, "failover"))
        request = f"q{seq + 1}"
        for variant, role in answers:
            seq += 1
            ok = not is_bad
            if variant == OLD.name and around.stable_bad_rate is not None:
                ok = rng.random() >= around.stable_bad_rate
            yield Record(
                seq=seq,
                request_id=request,
                route="tutor",
                epoch=route.epoch,
                variant=variant,
                role=role,
                user=user,
                started_at=float(tick),
                duration_s=0.2,
                ttft_s=0.1,
                status=200 if ok else 500,
                ok=ok,
                error="" if ok else "status",
                completion_tokens=20 if ok else None,
            )
