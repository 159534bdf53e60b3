"""States of one release, and decisions that lead to them, without a plan that was run through."""

from benchmarks.tiny_bundle import tiny_bundle
from configs.routing import Variant
from delivery.build.bundle import Bundle
from delivery.release.decide import new_state
from delivery.release.state import Alert, AwaitApproval, Decision, ReleaseState, Rollback, Served


def served(of: Bundle) -> Served:
    variant = Variant(model=of.served_name, upstreams=("http://vllm",), system_prompt=of.system_prompt)
    return Served(bundle=of.digest, name=of.variant_name, variant=variant)


BASE, NEW = tiny_bundle("a long prompt"), tiny_bundle("short")
BEGUN = new_state("r1", "local", "tutor", served(NEW), served(BASE), 100.0)
NOTE = Rollback(reason="error_rate 0.4 is above 0.2", by="slipway", quarantine=True, decided_at=100.0)


def decided(state: ReleaseState, *actions: Alert | AwaitApproval) -> Decision:
    return Decision(state=state, actions=actions, verdict="fail", reason="said here")


def at(phase: str, **more: object) -> ReleaseState:
    return BEGUN.model_copy(update={"phase": phase, **more})
