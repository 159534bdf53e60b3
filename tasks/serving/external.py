"""Replicas and gateways that others start, restart and end: checked and registered, never started or ended here."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.canonical import short
from configs.errors import Problem, SlipwayError
from configs.target import ExternalTarget
from delivery.clients.bundles.adapters import describe, store_at
from delivery.progress import Progress, silent
from tasks.serving.asked import ask_everyone, models_of, require_ours, require_serves, table_of, why
from tasks.serving.keep_alive import Incident
from tasks.serving.local import ADMIN_TOKEN
from tasks.serving.target import AdapterOrigin, Members, ModelToServe, PartState, readiness


@dataclass(frozen=True)
class External:
    """`config` says where they are; `home` is the state folder, whose adapters they see."""

    config: ExternalTarget
    home: Path

    @property
    def replicas(self) -> tuple[str, ...]:
        """Base URLs, as environment.yaml names them."""
        return self.config.replicas

    @property
    def gateways(self) -> tuple[str, ...]:
        """Admin URLs, as environment.yaml names them."""
        return self.config.gateways

    def admin_token(self) -> str:
        """SLIPWAY_ADMIN_TOKEN: whoever runs the gateways chose it."""
        token = os.environ.get(ADMIN_TOKEN, "").strip()
        if not token:
            raise SlipwayError(
                f"the environment variable {ADMIN_TOKEN} is not set",
                where="environment.yaml: target.gateways",
                cure="set it to the token that these gateways were started with",
            )
        return token

    def place(self, adapter: Path, origin: AdapterOrigin | None = None) -> str:
        """The folder's path on the replicas. Where they see another folder than the state folder's, it is copied."""
        wanted = describe(adapter)
        if adapter.name != short(wanted.digest):
            raise SlipwayError(
                f"the folder's name is not the digest of what it holds, {short(wanted.digest)}", where=str(adapter)
            )
        shared = (self.config.adapters_here or self.home / "adapters").absolute()
        if shared != adapter.absolute().parent:
            store_at(adapter, wanted, shared / adapter.name)
        return str(self.config.adapters_on_replicas / adapter.name)

    def before_up(self) -> Iterator[Callable[[], object]]:
        """The token; who answers is seen by `up` itself, since one of many may be away."""
        if self.gateways:
            yield self.admin_token
        yield self._require_shared

    @contextmanager
    def up(self, model: ModelToServe, on_progress: Progress = silent, *, attached: bool = False) -> Iterator[None]:
        """Starts nothing: some replica serves the model and some gateway takes our tables, or it raises."""
        parts = self._look(model.name)
        on_progress(0, 0, readiness(parts))
        for name in ("vllm", "gateway"):
            ours = [part for part in parts if part.name == name]
            if ours and not any(part.healthy for part in ours):
                raise SlipwayError(
                    f"none of the {len(ours)} {name} of this target can be used",
                    where="environment.yaml: target",
                    problems=[Problem(part.url, part.reason) for part in ours],
                    cure="others run them: Slipway cannot start them",
                )
        yield

    def down(self) -> tuple[str, ...]:
        """Nothing was started here."""
        return ()

    def state(self) -> tuple[PartState, ...]:
        """Everyone asked at the same time; an answer takes two seconds at most."""
        return self._look(None)

    def watch(self, model: ModelToServe, *, attached: bool = False) -> "ExternalWatch":
        """Notices who was away, or has forgotten what it had."""
        return ExternalWatch(self)

    def evaluates_on(self, model_name: str) -> str | None:
        """The first replica that serves the model."""
        parts = [part for part in self._look(model_name) if part.name == "vllm"]
        for part in parts:
            if part.healthy:
                return part.url
        problems = [Problem(part.url, part.reason) for part in parts]
        raise SlipwayError(
            f"no replica serves {model_name}: nothing can be evaluated",
            where="environment.yaml: target.replicas",
            problems=problems,
        )

    def summary(self) -> str:
        """READY of TOTAL, and who is not."""
        return readiness(self.state())

    def path_on(self, replica: str, path: str) -> str:
        """Below the folder that they see."""
        return str(self.config.adapters_on_replicas / Path(path).name)

    def members(self) -> None:
        """They are those that environment.yaml names."""
        return

    def prove(self, replica: str, path: str) -> None:
        """Nobody of ours stands beside a replica: the folder was checked here, and the path is compared there."""

    def ask_what_they_have(self) -> dict[str, frozenset[str] | SlipwayError]:
        """By URL the models of each replica, and the table of each gateway."""
        return ask_everyone(self._members, self._token, models_of, table_of)

    @property
    def _token(self) -> str:
        """Nobody needs one where there is no gateway."""
        return self.admin_token() if self.gateways else ""

    @property
    def _members(self) -> Members:
        return Members(self.replicas, self.gateways)

    def _look(self, model_name: str | None) -> tuple[PartState, ...]:
        """`model_name`: a replica that does not serve it is not ready."""
        found = ask_everyone(self._members, self._token, partial(require_serves, model_name=model_name), require_ours)
        return tuple(
            PartState(
                name="vllm" if url in self.replicas else "gateway",
                url=url,
                running=not isinstance(found[url], SlipwayError),
                healthy=not isinstance(found[url], SlipwayError),
                pid=None,
                log="",
                reason=why(found[url]),
            )
            for url in (*self.replicas, *self.gateways)
        )

    def _require_shared(self) -> None:
        shared = self.config.adapters_here
        if shared is not None and not (shared.is_dir() and os.access(shared, os.W_OK | os.X_OK)):
            raise SlipwayError(
                f"{shared} is no folder that can be written",
                where="environment.yaml: target.adapters_here",
                cure="name the folder that the replicas see as target.adapters_on_replicas",
            )


class ExternalWatch:
    """Notices a replica that answers again or has lost adapters, and a gateway that has lost its table.

    Nothing is restarted: that is the affair of whoever runs them. Serving the live bundle anew is ours.
    """

    def __init__(self, target: External):
        self._target = target
        self._known: dict[str, frozenset[str] | None] = {}  # by URL what it had; None: it was away

    def check(self, now: float) -> tuple[Incident, ...]:
        """Asks everyone once."""
        found = self._target.ask_what_they_have()
        return tuple(event for url, answer in found.items() for event in self._changed(url, answer))

    def _changed(self, url: str, answer: frozenset[str] | SlipwayError) -> Iterator[Incident]:
        name = "vllm" if url in self._target.replicas else "gateway"
        has = None if isinstance(answer, SlipwayError) else answer
        is_new = url not in self._known
        had = self._known.get(url, has)
        self._known[url] = has
        if has is None and (had is not None or is_new):
            yield Incident(name, "away", f"{name} {url}: {why(answer)}")
        elif has is not None and had is None:
            yield Incident(name, "back", f"{name} {url} answers again")
        elif has is not None and had is not None and (lost := sorted(had - has)):
            yield Incident(name, "back", f"{name} {url} has lost {', '.join(lost)}")
