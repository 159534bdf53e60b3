"""Every kind of target, one line each."""

from pathlib import Path

from configs.docker import DockerTarget
from configs.environment import Environment
from configs.kubernetes import KubernetesTarget
from configs.target import CombinedTarget, ExternalTarget
from tasks.serving.combined import Combined
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
    if isinstance(environment.target, CombinedTarget):
        said = environment.target.members
        parts = {name: target_of(environment.heeded_by(member), home) for name, member in said.items()}
        changing = next((name for name, member in said.items() if isinstance(member, KubernetesTarget)), None)
        return Combined(environment, parts, changing, home)
    return LocalProcesses(environment, home)
