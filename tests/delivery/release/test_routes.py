"""What a release changes in a routing table, and what it leaves as operators set it."""

import pytest
from rollout_world import World

from configs.routing import Policy, RoutingTable, Variant
from delivery.release.routes import alone, table_with
from delivery.release.state import Command, Observation, Served

A, B = "http://a", "http://b"


def served(*upstreams: str) -> Served:
    return Served(bundle="sha256:x", name="one", variant=Variant(model="m", upstreams=upstreams))


def test_the_routes_policy_stays_through_a_release_and_its_rollback() -> None:
    world = World()
    gateway = world.gateways["gw"]
    assert gateway.table is not None
    strict = gateway.table.routes["tutor"].model_copy(update={"policy": Policy(max_tokens=99)})
    gateway.table = world.tables[9] = RoutingTable(revision=9, routes={"tutor": strict})
    world.until_stage(1)
    assert gateway.table.routes["tutor"].policy.max_tokens == 99
    world.command = Command(id=1, kind="rollback", by="ann", reason="users complain")
    for _ in range(6):
        world.tick()
    assert world.state.phase == "rolled_back"
    assert gateway.table.routes["tutor"].policy.max_tokens == 99


@pytest.mark.parametrize(("left", "draining"), [((A, B), (A,)), ((B,), ()), ((A,), ())])
def test_a_replica_goes_on_draining_while_it_is_used_and_not_the_last(
    left: tuple[str, ...], draining: tuple[str, ...]
) -> None:
    table = RoutingTable(revision=4, routes={"tutor": alone(served(A, B), "salt", "before")}, draining=(A,))
    seen = Observation(gateways={}, replicas={}, ledger_table=table)
    after = alone(served(*left), "salt", "after")
    assert table_with("tutor", after, seen, table.lease_s).draining == draining
