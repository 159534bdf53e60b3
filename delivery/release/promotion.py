"""Whether what one environment serves may go on to the next: the same digest, after a soak, by the next one's gates."""

from collections.abc import Sequence
from typing import Literal

from configs.strict import Strict

NextMove = Literal["promote", "wait", "refuse", "nothing_to_do"]


class Lived(Strict):
    """What one environment's ledger says of a route. Times are UNIX seconds."""

    environment: str
    live: str  # bundle digest
    since: float | None  # when a release made it live; None: none did, it is the base model
    under_way: str = ""  # a release that has not ended
    taken_back: tuple[str, ...] = ()  # digests
    quarantined: tuple[str, ...] = ()  # digests


class PromotionGate(Strict):
    """One thing that the next environment asks for, beside the soak."""

    name: str
    passed: bool
    reason: str


class Promotion(Strict):
    """What follows. `left_s`: of a wait, until it is worth asking again."""

    standing: NextMove
    bundle: str = ""
    reasons: tuple[str, ...]
    left_s: float = 0.0


def promotion(before: Lived, after: Lived, soak_s: float, gates: Sequence[PromotionGate], now: float) -> Promotion:
    """Whether `before`'s live bundle goes on to `after`. All reasons against it come at once.

    Nothing else than that digest can be promoted: what was tried in one environment is what the next one gets.
    """
    bundle = before.live
    if not bundle:
        return Promotion(standing="refuse", reasons=(f"{before.environment} serves nothing yet",))
    if bundle == after.live:
        return Promotion(standing="nothing_to_do", bundle=bundle, reasons=(f"{after.environment} serves it already",))
    against = []
    if before.since is None:
        against.append(f"{before.environment} serves what no release brought there")
    for one in (before, after):
        if bundle in one.quarantined:
            against.append(f"it is quarantined in {one.environment}")
    if bundle in after.taken_back:
        against.append(f"it was taken back in {after.environment} already")
    against += [f"{gate.name}: {gate.reason}" for gate in gates if not gate.passed]
    if against:
        return Promotion(standing="refuse", bundle=bundle, reasons=tuple(against))
    waits = [f"release {one.under_way} is under way in {one.environment}" for one in (before, after) if one.under_way]
    lived_s = now - before.since if before.since is not None else 0.0
    left_s = max(0.0, soak_s - lived_s)
    if left_s > 0:
        waits.append(f"it has been live in {before.environment} for {lived_s:.0f} s of {soak_s:.0f} s")
    if waits:
        return Promotion(standing="wait", bundle=bundle, reasons=tuple(waits), left_s=left_s)
    passed = tuple(f"{gate.name}: {gate.reason}" for gate in gates)
    lived = f"it was live in {before.environment} for {lived_s:.0f} s, {soak_s:.0f} s are asked for"
    return Promotion(standing="promote", bundle=bundle, reasons=(lived, *passed))
