"""vLLM, a gateway or the ledger fails in the middle of a release."""

import sqlite3
from dataclasses import replace

from release_scene import Scene, in_canary_of, when


def test_vllm_restarting_in_a_canary_costs_no_release(scene: Scene) -> None:
    when(scene.world, in_canary_of(scene), scene.world.restart_vllm)
    outcome = scene.release()
    assert outcome.outcome == "live"
    assert outcome.failed_user_requests == 0


def test_a_gateway_restarting_in_a_canary_costs_no_release(scene: Scene) -> None:
    when(scene.world, in_canary_of(scene), scene.world.restart_gateway)
    assert scene.release().outcome == "live"


def test_while_the_ledger_is_locked_nothing_is_renewed_and_stable_takes_over(scene: Scene) -> None:
    other = sqlite3.connect(scene.home / "ledger.sqlite", isolation_level=None)
    exposed = []

    def lock() -> None:
        other.execute("BEGIN IMMEDIATE")
        locked_at, sleep = scene.world.clock(), scene.world.sleep

        def sleeping(seconds: float) -> None:
            sleep(seconds)
            state = scene.world.read()
            exposed.append(state["now"] < state["lease_until"])
            if state["now"] > locked_at + 25:
                other.execute("ROLLBACK")
                scene.world.sleep = sleep  # type: ignore[method-assign]

        scene.world.sleep = sleeping  # type: ignore[method-assign]

    site = replace(scene.site, sleep=lambda seconds: scene.world.sleep(seconds))
    when(scene.world, in_canary_of(scene), lock)
    outcome = scene.release(site=site)
    assert exposed[0]
    assert not exposed[-1]  # the lease ended, all traffic is stable's
    assert any("not renewing" in text for text in scene.said)
    assert outcome.outcome == "live"  # and afterwards the release goes on


def test_a_candidate_that_breaks_while_the_ledger_is_locked_still_loses_its_traffic(scene: Scene) -> None:
    other = sqlite3.connect(scene.home / "ledger.sqlite", isolation_level=None)
    served = []

    def lock() -> None:
        other.execute("BEGIN IMMEDIATE")
        scene.breaks(scene.new, 0)
        locked_at, sleep = scene.world.clock(), scene.world.sleep

        def sleeping(seconds: float) -> None:
            sleep(seconds)
            served.append(scene.serves())
            if other.in_transaction and scene.world.clock() > locked_at + 10:
                scene.world.restart_gateway()  # what was seen of the candidate is gone
                other.execute("ROLLBACK")

        scene.world.sleep = sleeping  # type: ignore[method-assign]

    site = replace(scene.site, sleep=lambda seconds: scene.world.sleep(seconds))
    when(scene.world, in_canary_of(scene), lock)
    outcome = scene.release(site=site)
    off = served.index({scene.base.variant_name})
    assert served[off:] == [{scene.base.variant_name}] * len(served[off:])
    assert outcome.outcome == "rolled_back"
    assert scene.ledger.newest_table("local") == scene.world.table
    assert scene.ledger.quarantined(scene.new.digest)
