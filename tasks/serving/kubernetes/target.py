"""Pods of a cluster as a target: applied, waited for, asked about anew each time, and made to prove what they hold."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from configs.api_keys import ApiKeys
from configs.canonical import short
from configs.environment import Environment
from configs.errors import Problem, SlipwayError
from configs.kubernetes import KubernetesTarget, SentAdapters
from configs.loading import load
from delivery.clients.agent import AgentClient
from delivery.clients.bundles.adapters import describe, store_at
from delivery.clients.kubernetes import ClusterAwayError, ClusterError, Namespace, open_namespace
from delivery.progress import Progress, silent
from tasks.serving.asked import ask_everyone, models_of, require_serves, table_of
from tasks.serving.kubernetes import pods
from tasks.serving.kubernetes.known import known_members, remember_members
from tasks.serving.kubernetes.manifests import manifests
from tasks.serving.kubernetes.names import ADAPTERS, AGENT_PORT, FIELD_MANAGER, Offered, Place, Secrets
from tasks.serving.kubernetes.owner import owner_of, require_owned, secrets_of
from tasks.serving.kubernetes.watch import ClusterWatch
from tasks.serving.local import VLLM_KEY, admin_token, environment_folder, gateway_health
from tasks.serving.target import Members, ModelToServe, PartState, readiness

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
        folder = environment_folder(self.environment, self.home)
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

    def place(self, adapter: Path) -> str:
        """The folder's path in every vLLM pod. It gets there before a replica has to prove it."""
        wanted = describe(adapter)
        if adapter.name != short(wanted.digest):
            raise SlipwayError(
                f"the folder's name is not the digest of what it holds, {short(wanted.digest)}", where=str(adapter)
            )
        if self._adapters_here != adapter.absolute().parent:
            store_at(adapter, wanted, self._adapters_here / adapter.name)
        return f"{ADAPTERS}/{adapter.name}"

    def prove(self, replica: str, path: str) -> None:
        """The pod's agent hashes what its vLLM sees; an adapter that is missing there is sent, where it is sent."""
        name = Path(path).name
        wanted = describe(self._adapters_here / name).digest
        host = urlsplit(replica).hostname or ""
        agent = f"http://[{host}]:{AGENT_PORT}" if ":" in host else f"http://{host}:{AGENT_PORT}"
        with AgentClient(agent, self._secrets().agent_token) as client:
            found = client.digest(name)
            if found is None and isinstance(self.config.adapters, SentAdapters):
                client.send(name, self._adapters_here / name)
                found = client.digest(name)
        if found != wanted:
            raise SlipwayError(
                f"the replica has {'nothing' if found is None else found} under {path}, not {wanted}",
                where=replica,
                cure="see that target.adapters.here is the folder that the pods mount" if found is None else "",
            )

    def before_up(self) -> Iterator[Callable[[], object]]:
        """A way into the namespace, nobody else's pods there, the tokens, and the file of API keys."""
        yield self._secrets
        if self.environment.gateway.api_keys is not None:
            yield partial(load, self.environment.gateway.api_keys, ApiKeys)
        yield self._require_namespace

    @contextmanager
    def up(self, model: ModelToServe, on_progress: Progress = silent, *, attached: bool = False) -> Iterator[None]:
        """Applies everything and waits for pods. What was applied stays, also when it fails: `down` deletes it.

        After the time that they have, some vLLM and some gateway are enough; the others are told of.
        """
        namespace, names = self.namespace, self._names
        require_owned(namespace, names, self._owner)
        wanted = manifests(names, model.name, model.context_tokens, self._secrets(), self._owner, self._offered())
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
            return self._states()
        except ClusterError as error:
            where = self.config.context or self.config.namespace
            return (PartState("cluster", where, running=False, healthy=False, pid=None, log="", reason=error.what),)

    def watch(self, model: ModelToServe, *, attached: bool = False) -> ClusterWatch:
        """Notices who joins, leaves, or has forgotten what it had."""
        ask = partial(ask_everyone, token=self.admin_token(), replica=models_of, gateway=table_of)
        return ClusterWatch(self._now_there, ask, self.state)

    def evaluates_on(self, model_name: str) -> str | None:
        """The first replica that serves the model."""
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
        here = None if isinstance(self.config.adapters, SentAdapters) else self.config.adapters.here
        return (here or self.home / "adapters").absolute()

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
        if there.replicas and there.gateways:
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
        while time.monotonic() < until:
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
