"""Pods of a cluster as a target: applied, waited for, asked about anew each time, and made to prove what they hold."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from configs.api_keys import ApiKeys
from configs.canonical import short
from configs.environment import Environment
from configs.errors import Problem, SlipwayError
from configs.kubernetes import KubernetesTarget, PulledAdapters, SharedAdapters
from configs.loading import as_yaml, load
from delivery.clients.bundles.adapters import describe, store_at
from delivery.clients.kubernetes import ClusterAwayError, ClusterError, Namespace, open_namespace
from delivery.progress import Progress, silent
from tasks.serving.asked import ask_everyone, models_of, require_serves, table_of
from tasks.serving.kubernetes import pods, pulled
from tasks.serving.kubernetes.agents import Agents
from tasks.serving.kubernetes.known import known_members, remember_members
from tasks.serving.kubernetes.manifests import manifests
from tasks.serving.kubernetes.names import (
    ADAPTERS,
    AGENT_CONFIG,
    FIELD_MANAGER,
    Offered,
    Place,
    PullSettings,
    Secrets,
)
from tasks.serving.kubernetes.owner import owner_of, require_owned, secrets_of
from tasks.serving.kubernetes.watch import ClusterWatch
from tasks.serving.local import VLLM_KEY, admin_token, environment_folder, gateway_health
from tasks.serving.target import AdapterOrigin, Members, ModelToServe, PartState, readiness

POLL_S = 1.0
MEMBERS_S = 2.0  # a rollback waits for nobody longer: it goes to those who were known last
LEAVE_S = 30.0
TABLE_SEEN_S = 20.0  # a probe looks every two seconds
IMAGE_VOLUMES = (1, 31)


@dataclass(frozen=True)
class KubernetesPods:
    """vLLM and gateways as Deployments of one namespace; `home` is the state folder, whose adapters they get."""

    environment: Environment
    config: KubernetesTarget
    home: Path

    @property
    def replicas(self) -> tuple[str, ...]:
        """Of the vLLM pods that are ready now."""
        return self.members().replicas

    @property
    def gateways(self) -> tuple[str, ...]:
        """Admin URLs of the gateway pods that run now, ready or not: without a table from us none gets ready."""
        return self.members().gateways

    def members(self) -> Members:
        """By the API server; while it is away, those that it named last: a rollback must reach them."""
        folder = self._folder
        try:
            found = self._now_there()
        except ClusterAwayError:
            known = known_members(folder)
            if known is None:
                raise
            return known
        remember_members(folder, found)
        return found

    def admin_token(self) -> str:
        """SLIPWAY_ADMIN_TOKEN, or one of our own."""
        return admin_token(self.environment, self.home)

    def place(self, adapter: Path, origin: AdapterOrigin | None = None) -> str:
        """The folder's path in every vLLM pod. It gets there before a replica has to prove it."""
        wanted = describe(adapter)
        if adapter.name != short(wanted.digest):
            raise SlipwayError(
                f"the folder's name is not the digest of what it holds, {short(wanted.digest)}", where=str(adapter)
            )
        if self._adapters_here != adapter.absolute().parent:
            store_at(adapter, wanted, self._adapters_here / adapter.name)
        if origin is not None and isinstance(self.config.adapters, PulledAdapters):
            pulled.offer(self.environment, self.home, self._folder, adapter.name, origin)
        return f"{ADAPTERS}/{adapter.name}"

    def path_on(self, replica: str, path: str) -> str:
        """Below the volume that each pod has."""
        return f"{ADAPTERS}/{Path(path).name}"

    def prove(self, replica: str, path: str) -> None:
        """Its agent hashes what the pod's vLLM sees; what is missing there is pulled by it, or sent to it."""
        self._agents.prove(replica, path)

    def before_up(self) -> Iterator[Callable[[], object]]:
        """A way into the namespace, nobody else's pods there, the tokens, and the file of API keys."""
        yield self._secrets
        if self.environment.gateway.api_keys is not None:
            yield partial(load, self.environment.gateway.api_keys, ApiKeys)
        yield self._agents_are_told
        yield self._require_namespace

    @contextmanager
    def up(self, model: ModelToServe, on_progress: Progress = silent, *, attached: bool = False) -> Iterator[None]:
        """Applies everything and waits for pods. What was applied stays, also when it fails: `down` deletes it.

        After the time that they have, some vLLM and some gateway are enough; the others are told of.
        """
        namespace, names = self.namespace, self._names
        require_owned(namespace, names, self._owner)
        wanted = manifests(
            names,
            model.name,
            model.context_tokens,
            self._secrets(),
            self._owner,
            self._offered(),
            self._agents_are_told(),
        )
        for number, manifest in enumerate(wanted):
            metadata = manifest["metadata"]
            on_progress(number, len(wanted), f"applying {manifest['kind']} {metadata['name']}")
            namespace.apply(manifest, FIELD_MANAGER)
        self._wait(on_progress)
        yield
        self._until_users_get_in(on_progress)

    def down(self) -> tuple[str, ...]:
        """Deletes everything; the names of what ran. The namespace, and volumes, stay as they are."""
        namespace, names = self.namespace, self._names
        require_owned(namespace, names, self._owner)
        ended: list[str] = []
        for api_version, kind in self._kinds():
            for resource in namespace.list(api_version, kind, names.selector):
                if namespace.delete(api_version, kind, resource["metadata"]["name"]) and kind == "Deployment":
                    ended.append(pods.component_of(resource))
        if ended:
            self._until_all_leave()
        return tuple(sorted(ended))

    def state(self) -> tuple[PartState, ...]:
        """Every pod that is wanted. A cluster that cannot be asked is one part that is not ready."""
        try:
            found = self._states()
            return self._with_refusals(found) if isinstance(self.config.adapters, PulledAdapters) else found
        except ClusterError as error:
            where = self.config.context or self.config.namespace
            return (PartState("cluster", where, running=False, healthy=False, pid=None, log="", reason=error.what),)

    def watch(self, model: ModelToServe, *, attached: bool = False) -> ClusterWatch:
        """Notices who joins, leaves, or has forgotten what it had."""
        ask = partial(ask_everyone, token=self.admin_token(), replica=models_of, gateway=table_of)
        return ClusterWatch(self._now_there, ask, self.state)

    def evaluates_on(self, model_name: str) -> str | None:
        """The first replica that serves the model. Where pods pull bundles they take none that is still being built."""
        if isinstance(self.config.adapters, PulledAdapters):
            return None
        there = self.replicas
        found = ask_everyone(
            Members(there, ()), "", partial(require_serves, model_name=model_name), lambda gateway: None
        )
        for url in there:
            if not isinstance(found[url], SlipwayError):
                return url
        problems = [Problem(url, str(found[url])) for url in there]
        raise SlipwayError(
            f"no vLLM pod serves {model_name}: nothing can be evaluated", where="slipway status", problems=problems
        )

    def summary(self) -> str:
        """Where users ask, READY of TOTAL, and who is not."""
        service = f"http://{self._names.name}-gateway.{self.config.namespace}.svc/v1"
        return f"users {service}\n{readiness(self.state())}"

    # -- the cluster ------------------------------------------------------------------------------------------------

    @property
    def namespace(self) -> Namespace:
        """The way to the API server."""
        config = self.config
        return open_namespace(config.namespace, config.kubeconfig, config.context, in_cluster=config.in_cluster)

    @property
    def _names(self) -> Place:
        return Place(self.environment, self.config)

    @property
    def _ports(self) -> pods.Ports:
        return pods.Ports(self.environment.vllm.port, self.environment.gateway.admin_port)

    @property
    def _owner(self) -> str:
        return owner_of(self.environment, self.home)

    @property
    def _adapters_here(self) -> Path:
        here = self.config.adapters.here if isinstance(self.config.adapters, SharedAdapters) else None
        return (here or self.home / "adapters").absolute()

    @property
    def _folder(self) -> Path:
        return environment_folder(self.environment, self.home)

    @property
    def _agents(self) -> Agents:
        return Agents(self.environment, self.config, self.home, self._adapters_here, self._secrets().agent_token)

    def _with_refusals(self, parts: tuple[PartState, ...]) -> tuple[PartState, ...]:
        """A pod that has refused an adapter is not ready for it, whatever its vLLM serves besides."""
        refused = self._agents.refused([part.url for part in parts if part.name == "vllm" and part.healthy])
        return tuple(
            replace(part, healthy=False, reason=refused[part.url]) if part.url in refused else part for part in parts
        )

    def _agents_are_told(self) -> PullSettings | None:
        if not isinstance(self.config.adapters, PulledAdapters):
            return None
        config, ca_text = pulled.agent_config(self.environment, AGENT_CONFIG)
        return PullSettings(as_yaml(config), ca_text)

    def _secrets(self) -> Secrets:
        return secrets_of(self.environment, self.admin_token(), os.environ.get(VLLM_KEY, "").strip())

    def _now_there(self) -> Members:
        found = self.namespace.list("v1", "Pod", self._names.selector, MEMBERS_S)
        return Members(pods.replicas(found, self._ports), pods.gateways(found, self._ports))

    def _states(self) -> tuple[PartState, ...]:
        namespace, selector = self.namespace, self._names.selector
        deployments = namespace.list("apps/v1", "Deployment", selector)
        return pods.states(
            deployments, namespace.list("v1", "Pod", selector), namespace.list("v1", "Event"), self._ports
        )

    def _require_namespace(self) -> None:
        namespace = self.namespace
        namespace.require()
        require_owned(namespace, self._names, self._owner)
        version = namespace.version()
        if self.config.base_model.image is not None and (0, 0) < version < IMAGE_VOLUMES:
            raise SlipwayError(
                f"this cluster is Kubernetes {version[0]}.{version[1]}, which has no volumes from images",
                where="environment.yaml: target.base_model.image",
                cure="use Kubernetes 1.31 or newer, or put the model on a volume: target.base_model.claim",
            )

    def _offered(self) -> Offered:
        """The newest version of each that both sides know."""
        policy, autoscaling = self.namespace.offers("policy"), self.namespace.offers("autoscaling")
        return Offered(
            "policy/v1" if "v1" in policy else "policy/v1beta1",
            "autoscaling/v2" if "v2" in autoscaling else "autoscaling/v2beta2",
        )

    def _kinds(self) -> tuple[tuple[str, str], ...]:
        """In the order in which they go: first whatever would make pods again, last the sign of whose they are."""
        offered = self._offered()
        return (
            (offered.autoscaler, "HorizontalPodAutoscaler"),
            (offered.pod_disruption_budget, "PodDisruptionBudget"),
            ("apps/v1", "Deployment"),
            ("v1", "Service"),
            ("v1", "ConfigMap"),
            ("v1", "Secret"),
            ("networking.k8s.io/v1", "NetworkPolicy"),
            ("rbac.authorization.k8s.io/v1", "RoleBinding"),
            ("rbac.authorization.k8s.io/v1", "Role"),
            ("v1", "ServiceAccount"),
            ("coordination.k8s.io/v1", "Lease"),
        )

    def _wait(self, on_progress: Progress) -> None:
        """Until all are there, or their time is over."""
        until, said = time.monotonic() + self.config.start_timeout_s, ""
        while True:
            try:
                parts = self._started()
            except ClusterAwayError as error:
                parts = (PartState("cluster", error.where, False, False, None, "", error.what),)
            missing = [part for part in parts if not part.healthy]
            if readiness(parts) != said:
                said = readiness(parts)
                on_progress(len(parts) - len(missing), len(parts), said)
            if not missing:
                return
            if time.monotonic() > until:
                break
            time.sleep(POLL_S)
        there = self._now_there()
        if there.replicas and (there.gateways or not self.config.gateways.replicas):
            return
        raise SlipwayError(
            f"the pods were not there within {self.config.start_timeout_s:g} s",
            where=f"namespace {self.config.namespace}",
            problems=[Problem(part.url, part.reason) for part in missing],
            cure="see to that and give the same command again; `slipway down` deletes what was applied",
        )

    def _until_all_leave(self) -> None:
        """The cluster asks pods to end a moment after their Deployment is gone; what they still finish takes longer."""
        until = time.monotonic() + LEAVE_S
        while any(map(pods.is_staying, self.namespace.list("v1", "Pod", self._names.selector))):
            if time.monotonic() > until:
                raise SlipwayError(
                    f"pods are still there {LEAVE_S:g} s after their Deployments were deleted",
                    where=f"namespace {self.config.namespace}",
                    cure="see whether the cluster's controllers run, and give the same command again",
                )
            time.sleep(POLL_S / 4)

    def _until_users_get_in(self, on_progress: Progress) -> None:
        """The Service sends nobody to a gateway before its probe has seen the table that it has by now."""
        until = time.monotonic() + TABLE_SEEN_S
        while self.config.gateways.replicas and time.monotonic() < until:
            found = [part for part in self.state() if part.name == "gateway" and part.running]
            if found and all(part.healthy for part in found):
                return
            time.sleep(POLL_S / 4)
        on_progress(0, 0, readiness(self.state()))

    def _started(self) -> tuple[PartState, ...]:
        """As they are; a gateway that takes our token waits for its table only."""
        token = self.admin_token()
        return tuple(
            replace(part, healthy=True)
            if part.name == "gateway" and part.running and gateway_health(part.url, token) == "ok"
            else part
            for part in self._states()
        )
