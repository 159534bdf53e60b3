"""Gateways, a vLLM, users and a clock that live in a folder: they outlast the process that controls them."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from places import ROOT

from benchmarks.tiny_bundle import tiny_bundle, write_tiny_lora
from configs.checks import Check
from configs.project import Project, load_project
from configs.rollout import RolloutPlan, Stage
from configs.routing import RoutingTable
from delivery.build.bundle import Bundle
from delivery.clients.bundles.adapters import describe
from delivery.clients.bundles.images import write_bundle
from delivery.clients.gateway import GatewayError
from delivery.clients.ledger.ledger import Ledger
from delivery.clients.vllm import VllmError, VllmUnavailableError
from delivery.traffic.assignment import assign, mirrored_to
from delivery.traffic.pairs import PairPage
from delivery.traffic.records import RecordPage
from tasks.release.site import Site

PLAN = RolloutPlan(
    tick_s=1,
    lease_s=15,
    monitor_timeout_s=5,
    max_hold_s=60,
    drain_s=2,
    stages=(
        Stage(kind="shadow", mirror_bp=5000, min_requests=15),
        Stage(kind="canary", share_bp=2000, min_requests=15),
        Stage(kind="full", share_bp=9000, min_requests=15),
        Stage(kind="watch", min_requests=15),
    ),
    checks=(Check(metric="error_rate", max=0.2),),
)
KNOWN = {"base": "/models/base"}


class World:
    """What is outside of the controller. Every change is on disk before it is seen.

    Several threads and processes change it (a controller, a rollback, users): each change is made under one lock, and
    whoever wants the state with its records has it too, since records are written in pieces.
    """

    def __init__(self, folder: Path, *, requests_a_second: int = 20):
        self.folder = folder
        self.requests_a_second = requests_a_second
        self.goes_bad: Callable[[dict[str, Any]], bool] = lambda world: False
        self.says: Callable[[str], tuple[str, str]] = lambda request_id: ("an old answer", "a new answer")
        self.gateway_up = True
        self.on_effect: Callable[[str], None] = lambda effect: None
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "world.json").exists():
            fresh = {"now": 1_000_000.0, "table": None, "lease_until": 0.0, "boot": 1, "seq": 0, "asked": 0}
            self._write(fresh | {"models": KNOWN, "failed_users": 0, "exposed": 0, "put": []})
            (folder / "records.jsonl").touch()

    def read(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.folder / "world.json").read_text())
        return state

    def change(self, effect: str, **changes: Any) -> None:
        with self.changing() as world:
            world |= changes
        self.on_effect(effect)

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """The state, which is written when the block ends; what raises in it changes nothing."""
        with self._locked():
            world = self.read()
            yield world
            self._write(world)

    def read_with_records(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The state, and all records that belong to it."""
        with self._locked():
            lines = (self.folder / "records.jsonl").read_text().splitlines()
            return self.read(), [json.loads(line) for line in lines]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back with the file, even by a process that is killed
            yield

    def _write(self, state: dict[str, Any]) -> None:
        fresh = self.folder / "world.new"
        fresh.write_text(json.dumps(state))
        os.replace(fresh, self.folder / "world.json")

    # -- time and users ---------------------------------------------------------------------------------------------

    def clock(self) -> float:
        return float(self.read()["now"])

    def sleep(self, seconds: float) -> None:
        """Time passes, and users ask."""
        with self.changing() as world:
            world["now"] += seconds
            table = RoutingTable.model_validate(world["table"]) if world["table"] and self.gateway_up else None
            if table is not None and "tutor" in table.routes:
                with (self.folder / "records.jsonl").open("a") as file:
                    for _ in range(max(1, int(seconds * self.requests_a_second))):
                        for record in self._ask(world, table):
                            file.write(json.dumps(record) + "\n")

    def _ask(self, world: dict[str, Any], table: RoutingTable) -> list[dict[str, Any]]:
        route, leased = table.routes["tutor"], world["now"] < world["lease_until"]
        world["asked"] += 1
        user, request = f"u{world['asked'] % 200}", f"q{world['asked']}"
        chosen = assign(route, user, leased)
        bad = self.goes_bad(world)
        made = []

        def answer(variant: str, role: str) -> bool:
            world["seq"] += 1
            model = route.variants[variant].model
            ok = model in world["models"] and not (bad and variant == world.get("bad_variant"))
            last = variant == route.stable
            made.append(
                {
                    "seq": world["seq"],
                    "request_id": request,
                    "route": "tutor",
                    "epoch": route.epoch,
                    "variant": variant,
                    "role": role,
                    "user": user,
                    "started_at": world["now"],
                    "duration_s": 0.2,
                    "ttft_s": 0.1,
                    "status": 200 if ok else 500,
                    "ok": ok,
                    "error": "" if ok else "status",
                    "completion_tokens": 20 if ok else None,
                    "user_ok": ok or not last or role == "mirror",
                }
            )
            return ok

        if not answer(chosen, "served") and chosen != route.stable:
            answer(route.stable, "failover")
        if chosen == route.stable and (candidate := mirrored_to(route, request, leased)):
            answer(candidate, "mirror")
        world["failed_users"] += sum(not record["user_ok"] for record in made)
        return made

    # -- what tests look at -----------------------------------------------------------------------------------------

    @property
    def table(self) -> RoutingTable:
        return RoutingTable.model_validate(self.read()["table"])

    @property
    def models(self) -> set[str]:
        return set(self.read()["models"])

    def restart_vllm(self) -> None:
        self.change("vllm restarts", models=KNOWN)

    def restart_gateway(self) -> None:
        with self.changing() as world:
            (self.folder / "records.jsonl").write_text("")
            world |= {"boot": world["boot"] + 1, "seq": 0}
        self.on_effect("gateway restarts")


class FakeGateway:
    """GatewayClient's methods on a World."""

    def __init__(self, world: World):
        self.world = world

    def _state(self) -> dict[str, Any]:
        if not self.world.gateway_up:
            raise GatewayError("the gateway's admin API cannot be reached")
        return self.world.read()

    def ready(self) -> bool:
        return self.world.gateway_up

    def table(self) -> RoutingTable | None:
        table = self._state()["table"]
        return RoutingTable.model_validate(table) if table else None

    def put_table(self, table: RoutingTable) -> None:
        self._state()
        value = table.model_dump(mode="json")
        with self.world.changing() as state:
            known = state["table"]
            if known and (known["revision"], value) != (table.revision, known) and known["revision"] >= table.revision:
                raise GatewayError(f"revision {table.revision} is refused", status=409)
            until = state["now"] + table.lease_s
            state |= {"table": value, "lease_until": until, "put": [*state["put"], table.revision]}
        self.world.on_effect("put")

    def renew(self, revision: int) -> None:
        self._state()
        with self.world.changing() as state:
            if not state["table"] or state["table"]["revision"] != revision:
                raise GatewayError("another revision is served", status=409)
            state["lease_until"] = state["now"] + state["table"]["lease_s"]
        self.world.on_effect("renew")

    def records(self, after: int, limit: int = 5000) -> RecordPage:
        self._state()
        state, records = self.world.read_with_records()
        return RecordPage.model_validate(
            {
                "boot_id": f"boot-{state['boot']}",
                "now": state["now"],
                "revision": state["table"]["revision"] if state["table"] else 0,
                "lease_remaining_s": None,
                "records": records[after : after + limit],
                "in_flight": [],
                "dropped": 0,
                "last_seq": state["seq"],
            }
        )

    def pairs(self, after: int, limit: int = 200) -> PairPage:
        """One for each mirrored request that was answered, while the table asks for texts."""
        self._state()
        state, records = self.world.read_with_records()
        route = RoutingTable.model_validate(state["table"]).routes["tutor"]
        is_kept = route.candidate is not None and route.candidate.capture_bp
        copies = [one for one in records if is_kept and one["role"] == "mirror" and one["epoch"] == route.epoch]
        pairs = [
            {name: one[name] for name in ("request_id", "route", "epoch", "user", "started_at")}
            | {"seq": seq, "asked": [{"role": "user", "content": one["request_id"]}]}
            | dict(zip(("stable", "candidate"), self.world.says(one["request_id"]), strict=True))
            for seq, one in enumerate(copies, start=1)
        ]
        boot_id = f"boot-{state['boot']}-{route.epoch}"
        return PairPage.model_validate(
            {"boot_id": boot_id, "pairs": pairs[after : after + limit], "last_seq": len(pairs)}
        )

    def close(self) -> None:
        pass


class FakeVllm:
    """VllmClient's methods on a World."""

    def __init__(self, world: World):
        self.world = world
        self.up = True
        self.refuses = ""

    def models(self) -> dict[str, str]:
        if not self.up:
            raise VllmUnavailableError("vLLM cannot be reached")
        return dict(self.world.read()["models"])

    def load_adapter(self, name: str, path: Path | str) -> None:
        if name in self.models():
            return
        if self.refuses:
            raise VllmError(self.refuses)
        with self.world.changing() as world:
            world["models"][name] = str(path)
        self.world.on_effect("load")

    def unload_adapter(self, name: str) -> None:
        models = self.models()
        table = self.world.read()["table"]
        used = {variant["model"] for variant in table["routes"]["tutor"]["variants"].values()} if table else set()
        assert name not in used, f"{name} is unloaded while the table uses it"
        if name in models:
            with self.world.changing() as world:
                world["models"].pop(name, None)
            self.world.on_effect("unload")

    def probe(self, name: str) -> None:
        if name not in self.models():
            raise VllmError(f"vLLM does not serve {name}")


class Inline(Executor):
    """Does at once what it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future


def site_of(world: World, home: Path, ledger: Ledger, owner: str = "me") -> Site:
    vllm = FakeVllm(world)
    return Site(
        environment=project().environment,
        ledger=ledger,
        gateways={"gw": FakeGateway(world)},  # type: ignore[dict-item]
        vllm=lambda url: vllm,  # type: ignore[arg-type,return-value]
        home=home,
        clock=world.clock,
        sleep=world.sleep,
        executor=Inline,
        background=Inline().submit,
        owner=owner,
    )


def project(plan: RolloutPlan = PLAN) -> Project:
    tutor = load_project(ROOT / "configs" / "tutor")
    model = tutor.model.model_copy(update={"name": "base"})
    return replace(tutor, rollout=plan, model=model, route="tutor")


def base_bundle() -> Bundle:
    return tiny_bundle("a long prompt")


def lora_bundle(home: Path, seed: int = 1, rank: int = 8) -> Bundle:
    """A bundle with a tiny but real adapter, written as an image layout."""
    folder = home / f"made-{seed}"
    write_tiny_lora(folder, seed, rank)
    bundle = tiny_bundle("a short prompt", describe(folder))
    write_bundle(bundle, folder, home)
    return bundle
