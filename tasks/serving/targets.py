"""Every kind of target, one line each."""

from pathlib import Path

from configs.docker import DockerTarget
from configs.environment import Environment
from configs.kubernetes import KubernetesTarget
from configs.target import ExternalTarget
from tasks.serving.docker.target import DockerContainers
from tasks.serving.external import External
from tasks.serving.kubernetes.target import KubernetesPods
from tasks.serving.local import LocalProcesses
from tasks.serving.target import Target


def target_of(environment: Environment, home: Path) -> Target:
    """Where this environment runs. `home` is the state folder."""
    if isinstance(environment.target, ExternalTarget):
        return External(environment.target, home)
    if isinstance(environment.target, DockerTarget):
        return DockerContainers(environment, environment.target, home)
    if isinstance(environment.target, KubernetesTarget):
        return KubernetesPods(environment, environment.target, home)
    return LocalProcesses(environment, home)
