"""The agents beside the vLLM pods, as the controller talks to them: they have and prove bytes, or say why not."""

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from configs.canonical import short
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.kubernetes import KubernetesTarget, PulledAdapters, SharedAdapters
from delivery.clients.agent import SLOW_S, AgentClient
from delivery.clients.at_once import at_once
from delivery.clients.bundles.adapters import describe
from delivery.clients.bundles.images import list_bundles
from tasks.serving.asked import ANSWER_S
from tasks.serving.kubernetes.names import AGENT_PORT
from tasks.serving.kubernetes.pulled import Offer, offer, offers
from tasks.serving.local import environment_folder
from tasks.serving.target import AdapterOrigin


@dataclass(frozen=True)
class Agents:
    """Those of one environment. `adapters_here`: the folder of this machine whose adapters pods get."""

    environment: Environment
    config: KubernetesTarget
    home: Path
    adapters_here: Path
    token: str = field(repr=False)

    def prove(self, replica: str, path: str) -> None:
        """The pod's agent hashes what its vLLM sees; what is missing there is pulled by it, or sent to it."""
        name = Path(path).name
        wanted = describe(self.adapters_here / name).digest
        with self._client(replica) as client:
            found = client.digest(name)
            if found is None and not isinstance(self.config.adapters, SharedAdapters):
                self._bring(client, name)
                found = client.digest(name)
        if found != wanted:
            raise SlipwayError(
                f"the replica has {'nothing' if found is None else found} under {path}, not {wanted}",
                where=replica,
                cure="see that target.adapters.here is the folder that the pods mount" if found is None else "",
            )

    def refused(self, replicas: list[str]) -> dict[str, str]:
        """By replica, what its agent refused lately, and why; nothing of those that do not answer."""
        said = at_once({url: partial(self._refused_by, url) for url in replicas}, ANSWER_S)
        return {
            url: "; ".join(f"adapter {name} was refused: {why}" for name, why in one.items())
            for url, one in said.items()
            if isinstance(one, dict) and one
        }

    def _bring(self, client: AgentClient, name: str) -> None:
        if not isinstance(self.config.adapters, PulledAdapters):
            client.send(name, self.adapters_here / name)
            return
        offered = self._offers(name)
        if not offered:
            raise SlipwayError(
                f"no bundle is known here that holds adapter {name}, so the replica was told of none",
                cure="pull the bundle to this machine: slipway pull HOST/PATH@DIGEST",
            )
        for one in offered[:-1]:
            try:
                client.pull(name, one.digest, one.as_of)
                return
            except SlipwayError:
                continue  # another bundle holds the same bytes
        client.pull(name, offered[-1].digest, offered[-1].as_of)

    def _offers(self, name: str) -> list[Offer]:
        """What the pods may pull an adapter from; looked for among the bundles here where none was noted yet."""
        folder = environment_folder(self.environment, self.home)
        there = offers(folder, name)
        for bundle in () if there else list_bundles(self.home):
            if bundle.adapter is not None and short(bundle.adapter.digest) == name:
                offer(self.environment, self.home, folder, name, AdapterOrigin(bundle.digest, time.time()))
        return there or offers(folder, name)

    def _refused_by(self, replica: str) -> dict[str, str]:
        with self._client(replica, ANSWER_S) as client:
            return client.refused()

    def _client(self, replica: str, timeout_s: float = SLOW_S) -> AgentClient:
        host = urlsplit(replica).hostname or ""
        agent = f"http://[{host}]:{AGENT_PORT}" if ":" in host else f"http://{host}:{AGENT_PORT}"
        return AgentClient(agent, self.token, slow_timeout_s=timeout_s)
