"""Replicas that come and go in the middle of a release, where the target names them anew each time."""

from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_world import BASE, NEW, OLD, PLAN, Replica, World, on

from delivery.release.members import here
from delivery.release.state import LoadAdapter, Served

A, B, C = "http://a", "http://b", "http://c"


def elastic(served: Served) -> Served:
    return on((A, B), served).model_copy(update={"follows": True})


def world() -> World:
    old = elastic(OLD)
    replicas = {url: Replica({"base", "tutor-old"}, verified={"tutor-old"}) for url in (A, B)}
    return World(old=old, new=elastic(NEW), replicas=replicas, comes_and_goes=True)


def in_canary() -> World:
    found = world()
    for _ in range(60):
        found.both_serve(3)
        found.tick()
        if found.state.phase == "stage" and PLAN.stages[found.state.stage_index].kind == "canary":
            return found
    raise AssertionError(found.state.reason)


def upstreams(found: World) -> dict[str, tuple[str, ...]]:
    table = found.gateways["gw"].table
    assert table is not None
    return {name: variant.upstreams for name, variant in table.routes["tutor"].variants.items()}


def test_a_replica_that_is_gone_loses_its_users_with_the_next_tick_and_the_canary_goes_on() -> None:
    found = in_canary()
    del found.replicas[A]
    found.tick()
    assert upstreams(found) == {"old": (B,), "new": (B,)}
    assert not found.state.suspended
    found.both_serve(30)
    found.tick()
    assert found.state.phase == "stage"


def test_a_replica_that_joins_in_a_canary_gets_nobody_before_it_has_loaded_and_answered() -> None:
    found = in_canary()
    found.replicas[C] = Replica({"base"})
    found.loads_fail = True
    for _ in range(3):
        found.tick()
        assert all(C not in urls for urls in upstreams(found).values())
        assert not found.state.suspended, "the others serve the candidate all the while"
    found.loads_fail = False
    decision = found.tick()
    loads = {(a.url, a.name, a.path) for a in decision.actions if isinstance(a, LoadAdapter)}
    assert loads == {(C, "tutor-old", "/old"), (C, "tutor-new", "/new")}
    found.tick()
    assert upstreams(found) == {"old": (A, B, C), "new": (A, B, C)}


def test_each_variant_takes_a_new_replica_when_it_has_its_own_adapter_there() -> None:
    found = in_canary()
    found.replicas[C] = Replica({"base", "tutor-old"}, verified={"tutor-old"})
    found.loads_fail = True
    found.tick()
    assert upstreams(found) == {"old": (A, B, C), "new": (A, B)}


def test_replaced_replicas_carry_a_release_to_its_end_and_what_is_live_is_where_the_replicas_are() -> None:
    found = in_canary()
    found.replicas[C] = Replica({"base"})
    for _ in range(3):
        found.tick()
    del found.replicas[A], found.replicas[B]
    for _ in range(200):
        found.both_serve(30)
        if found.state.awaiting_approval:
            from delivery.release.state import Approval

            found.approval = Approval(stage_index=found.state.stage_index, approved=True, by="ann", reason="good")
        found.tick()
        if found.state.phase == "live":
            break
    assert found.state.phase == "live", found.state.reason
    assert found.live.variant.upstreams == (C,)


def test_with_nobody_there_the_table_stays_and_the_candidate_has_nobody_in_the_end() -> None:
    found = in_canary()
    found.replicas.clear()
    for _ in range(90):
        found.tick()
    assert found.state.phase in ("rolling_back", "rolled_back")
    assert upstreams(found) == {"old": (A, B)}


def test_after_a_rollback_no_replica_keeps_the_candidate_even_one_that_joined_late() -> None:
    found = in_canary()
    found.replicas[C] = Replica({"base", "tutor-old", "tutor-new"}, verified={"tutor-old"})
    found.take_back_by_hand(and_put=True)
    for _ in range(40):
        found.tick()
    assert found.state.phase == "rolled_back"
    assert all("tutor-new" not in one.models for one in found.replicas.values())


def test_replicas_of_a_target_that_names_them_once_stay_as_they_are() -> None:
    assert here(OLD, (A,)) is OLD
    assert here(elastic(OLD), ()) == elastic(OLD)
    assert here(elastic(OLD), (C,)).variant.upstreams == (C,)
    assert not BASE.follows


EVENTS = st.lists(st.sampled_from(["tick", "serve", "add", "remove", "restart"]), max_size=80)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_whatever_comes_and_goes_nobody_is_sent_to_a_replica_that_joined_without_the_model(events: list[str]) -> None:
    found, number = in_canary(), 0
    for event in events:
        if event == "add":
            number += 1
            found.replicas[f"http://new-{number}"] = Replica({"base"})
        elif event == "remove" and len(found.replicas) > 1:
            del found.replicas[sorted(found.replicas)[0]]
        elif event == "restart":
            found.replicas[sorted(found.replicas)[-1]].restart()
        elif event == "serve":
            found.both_serve(5)
        before = {url: set(one.models) for url, one in found.replicas.items()}
        known = {url for urls in upstreams(found).values() for url in urls}
        found.tick()
        table = found.gateways["gw"].table
        assert table is not None
        for variant in table.routes["tutor"].variants.values():
            assert variant.upstreams
            for url in set(variant.upstreams) - known:
                assert variant.model in before[url]
