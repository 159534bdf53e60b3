"""The gateway's promise on real vLLM: whatever dies or changes around it, nobody fails but who was inside what died.

One story under one load, told by three witnesses - the users, the gateways' records, their metrics: two replicas of
vLLM with adapters, a canary in progress and a new table every other second, while the gateway is replaced, a second one
is killed, and then one of the replicas.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import LiveVllm
from live_gateways import Controller, Death, Gateway
from live_users import Asked, Crowd, User, crowd
from live_world import eventually

from configs.routing import RoutingTable
from delivery.clients.processes import local as processes
from delivery.clients.processes.ports import free_ports
from delivery.clients.vllm import VllmClient
from delivery.traffic.assignment import assign, pseudonym
from delivery.traffic.records import Record

pytestmark = [pytest.mark.live, pytest.mark.timeout(1500)]

USERS = 10
CHANGES = 50
CHANGE_EVERY_S = 1.5
SALT = "a salt for tests"
ADAPTERS = ("load-stable", "load-second", "load-third")
SHARES_BP = (1000, 3000, 6000, 9000, 5000, 2000)
SETTLED_ANSWERS = 20  # until the next thing happens
SLOW = ("--first-byte-timeout-s", "200", "--idle-timeout-s", "200", "--drain-s", "100")


def table(number: int, upstreams: tuple[str, ...]) -> RoutingTable:
    """The number-th table: shares go up and down, the candidate changes every fourth time, every epoch is new."""
    candidate = ADAPTERS[1 + number // 4 % 2]
    variants = {name: {"model": name, "upstreams": upstreams} for name in (ADAPTERS[0], candidate)}
    route = {
        "salt": SALT,
        "epoch": f"epoch-{number}",
        "stable": ADAPTERS[0],
        "candidate": {"variant": candidate, "share_bp": SHARES_BP[number % len(SHARES_BP)]},
        "variants": variants,
        "policy": {"show_variant": True},
    }
    return RoutingTable.model_validate({"revision": number, "routes": {"tutor": route}})


def people(keys: dict[str, str]) -> list[User]:
    """Users of every key, half of whom keep their connection."""
    owner = cycle(keys)
    return [User(f"user-{n}", name := next(owner), keys[name], n % 4 < 2) for n in range(USERS)]


@dataclass
class Story:
    """What happened, as the three witnesses tell it."""

    crowd: Crowd
    gateways: list[Gateway]
    controller: Controller
    users: list[User]
    replaced_status: int
    gateway_died: Death
    vllm_died: Death

    @property
    def records(self) -> list[Record]:
        """Of all gateways."""
        return [record for gateway in self.gateways for record in gateway.records]


@pytest.fixture(scope="module")
def replicas(
    vllm: LiveVllm, start_vllm: Callable[[Path], LiveVllm], tiny_loras, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LiveVllm, LiveVllm]]:
    """Two vLLMs with the same adapters; the second may be killed."""
    folder = tmp_path_factory.mktemp("second-vllm")
    both = vllm, start_vllm(folder)
    folders = dict(zip(ADAPTERS, (tiny_loras[0], tiny_loras[1], tiny_loras[0]), strict=True))
    try:
        for one in both:
            with VllmClient(one.url) as client:
                for name, adapter in folders.items():
                    client.load_adapter(name, adapter)
        yield both
    finally:
        processes.stop("vllm", folder)
        with VllmClient(vllm.url) as client:
            for name in ADAPTERS:
                client.unload_adapter(name)


@pytest.fixture(scope="module")
def story(replicas: tuple[LiveVllm, LiveVllm], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Everything happens here; the tests only look at it."""
    folder, port = tmp_path_factory.mktemp("gateways"), free_ports(1)[0]
    keys = {"class-7b": "sk-live-7b", "class-8a": "sk-live-8a"}
    listed = [{"name": name, "sha256": [hashlib.sha256(key.encode()).hexdigest()]} for name, key in keys.items()]
    (folder / "keys.yaml").write_text(yaml.safe_dump({"keys": listed}))
    gateways: list[Gateway] = []
    controller = Controller(lambda number: table(number, tuple(one.url for one in replicas)), CHANGE_EVERY_S)

    def another() -> Gateway:
        gateways.append(Gateway(port, folder, "--keys", str(folder / "keys.yaml"), *SLOW))
        controller.take(gateways[-1])
        return gateways[-1]

    users = people(keys)
    try:
        first = another()
        with controller.at_work(), crowd(users, port) as seen:
            settle(seen)
            second = another()
            replaced_status = first.end()
            settle(seen)
            third = another()
            settle(seen)
            eventually(lambda: min(one.in_flight() for one in (second, third)) >= 2, 120, "users are at both gateways")
            gateway_died = second.kill()
            settle(seen)
            url = replicas[1].url
            eventually(
                lambda: third.in_flight_at(url) >= 2 and third.streams_begun() >= 4, 120, "streams are under way"
            )
            vllm_died = kill_vllm(replicas[1].folder)
            settle(seen)
            eventually(lambda: len(controller.tables) > CHANGES, 200, "the table changes so many times")
        yield Story(seen, gateways, controller, users, replaced_status, gateway_died, vllm_died)
    finally:
        for gateway in gateways:
            gateway.close()


def settle(seen: Crowd) -> None:
    """Waits until so many more requests have ended."""
    until = len(seen.asked) + SETTLED_ANSWERS
    eventually(lambda: len(seen.asked) >= until, 480, "users are answered")


def kill_vllm(folder: Path) -> Death:
    """kill -9 of what the guard guards."""
    guard = processes.find("vllm", folder)
    assert guard is not None
    victims = psutil.Process(guard.pid).children(recursive=True)
    seen_at = time.time()
    for victim in victims:
        victim.kill()
    psutil.wait_procs(victims, timeout=120)
    return Death(seen_at, time.time())


def inside(death: Death, asked: Asked) -> bool:
    """Whether a request was under way at the kill; a connection may have been made in the moment of it."""
    is_connected = asked.client_port in death.client_ports or asked.began_at >= death.seen_at
    return asked.began_at <= death.at and asked.ended_at >= death.seen_at and is_connected


def broken_by_gateway(story: Story) -> list[Asked]:
    return [one for one in story.crowd.failed if "error frame" not in one.failure and inside(story.gateway_died, one)]


def under_way(death: Death, asked: Asked) -> bool:
    return asked.began_at <= death.at and asked.ended_at >= death.seen_at


def broken_by_vllm(story: Story) -> list[Asked]:
    """Those that broke off after their first words, and those that were sent there and to no other replica then.

    A request at which a replica may have died is not tried on the next one.
    """
    inside_it = [one for one in story.crowd.failed if under_way(story.vllm_died, one)]
    midstream = [one for one in inside_it if one.pieces and one.failure == "error frame: midstream of the gateway"]
    lost = [one for one in inside_it if not one.pieces and one.failure.startswith("status 502")]
    return midstream + lost


def test_no_request_fails_but_those_that_were_inside_a_killed_process(story: Story) -> None:
    excused = [*broken_by_gateway(story), *broken_by_vllm(story)]
    assert [one for one in story.crowd.failed if one not in excused] == []
    answered = len(story.crowd.asked) - len(story.crowd.failed)
    connecting = sum(one.began_at >= story.gateway_died.seen_at for one in broken_by_gateway(story))
    print(
        f"{len(story.crowd.asked)} requests under {len(story.controller.tables)} tables: {answered} answered, "
        f"{len(broken_by_gateway(story))} broken by the killed gateway ({connecting} as they connected to it), "
        f"{len(broken_by_vllm(story))} by the killed vLLM"
    )
    assert answered > 5 * SETTLED_ANSWERS - USERS


def test_the_killed_gateway_had_users_and_the_one_beside_it_kept_its_own(story: Story) -> None:
    death = story.gateway_died
    over_it = [one for one in story.crowd.asked if one.began_at < death.seen_at and one.ended_at > death.at]
    elsewhere = [one for one in over_it if one.client_port not in death.client_ports]
    assert broken_by_gateway(story), "a kill that nobody was hit by shows nothing"
    assert elsewhere
    assert [one for one in elsewhere if one.failure and one not in broken_by_vllm(story)] == []


def test_the_killed_vllm_breaks_no_request_of_the_one_beside_it_and_none_before_its_first_words_but_stables(
    story: Story,
) -> None:
    kept = [one for one in story.crowd.asked if under_way(story.vllm_died, one) and not one.failure]
    assert kept, "nobody was at the other replica"
    unanswered = {one.request_id for one in broken_by_vllm(story) if not one.pieces}
    failed = [record for record in story.records if record.request_id in unanswered and not record.user_ok]
    assert {record.variant for record in failed} <= {ADAPTERS[0]}, "stable takes over from a candidate"
    survivor = story.gateways[-1]
    made_good = survivor.metrics["slipway_upstream_failures_total"]
    assert made_good + len(broken_by_vllm(story)) > 0, "a kill that nobody was hit by shows nothing"
    later = [one for one in story.crowd.asked if one.began_at > story.vllm_died.at]
    assert len(later) > 3
    assert [one for one in later if one.failure] == []


def test_a_gateway_that_is_replaced_loses_nobody_and_ends_well(story: Story) -> None:
    assert story.replaced_status == 0
    assert story.gateways[0].records
    assert story.gateways[0].metrics["slipway_user_failures_total"] == 0
    assert [record for record in story.gateways[0].records if not record.user_ok] == []


def test_users_keep_their_variant_within_each_of_fifty_epochs(story: Story) -> None:
    assert story.controller.problems == []
    assert len(story.controller.tables) > CHANGES
    routes = {one.routes["tutor"].epoch: one.routes["tutor"] for one in story.controller.tables}
    named = {pseudonym(SALT, f"{user.owner}\n{user.name}"): f"{user.owner}\n{user.name}" for user in story.users}
    served = [record for record in story.records if record.role == "served"]
    assert [one for one in served if one.variant != assign(routes[one.epoch], named[one.user], True)] == []
    assert {record.variant for record in served} == set(ADAPTERS)
    shown = {one.request_id: one.variant for one in story.crowd.asked if not one.failure}
    answers = [one for one in story.records if one.user_ok and one.request_id in shown]
    assert {one.request_id for one in answers if one.ok and one.variant != shown[one.request_id]} == set()


def test_records_and_metrics_count_what_the_users_saw(story: Story) -> None:
    last = story.gateways[-1]
    broken = [record for record in story.records if not record.user_ok]
    assert {record.request_id for record in broken} == {one.request_id for one in broken_by_vllm(story)}
    assert last.metrics["slipway_user_failures_total"] == len(broken) == len(broken_by_vllm(story))
    outcomes = Counter(record.error or "ok" for record in last.records)
    assert {name: last.metrics[f"slipway_attempts_total:{name}"] for name in outcomes} == outcomes
    answered = {one.request_id for one in story.crowd.asked if not one.failure}
    assert {record.request_id for record in last.records if record.ok} <= answered
    unread = answered - {record.request_id for record in story.records if record.ok}
    ended = {one.request_id: one.ended_at for one in story.crowd.asked}
    gaps = [(one.read_at, one.ended_at + 5) for one in story.gateways[:-1]]  # what it measured last, it took with it
    assert [one for one in unread if not any(begin < ended[one] < end for begin, end in gaps)] == []
