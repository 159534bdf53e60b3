"""What pool.yaml and the project's other files say against each other: a run would fail, or what it makes be lost."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from configs.docker import DockerTarget
from configs.errors import ConfigError, Problem
from configs.kubernetes import KubernetesTarget
from configs.pool import Pool
from configs.project import Project
from configs.target import LocalTarget

SQLITE = "sqlite:///"


def fitting_pool(project: Project) -> Pool:
    """The project's pool. Raises one ConfigError where there is none, or with all that keeps its runs from working."""
    folder = project.folder
    if project.pool is None:
        where, cure = str(folder / "pool.yaml"), "write this file, see docs/training-on-a-cluster.md"
        raise ConfigError("the project names no work pool", where=where, cure=cure)
    problems = tuple([*_of_state(project, project.pool), *_of_the_target(project, project.pool)])
    if problems:
        raise ConfigError(f"runs of this pool cannot work: {len(problems)} problem(s)", problems=problems)
    return project.pool


def _of_state(project: Project, pool: Pool) -> Iterator[Problem]:
    environment, there = project.environment, str(project.folder / "environment.yaml")
    if environment.store is None and not pool.keeps(pool.home):
        yield Problem(
            f"{there}: store",
            f"there is none, and home ({pool.home}) is on no volume: what a run makes would go with it",
            "name a store, or a volume at home in pool.yaml",
        )
    if environment.store is not None and environment.store.scheme == "file":
        root = PurePosixPath(environment.store.root)
        if not pool.keeps(root):
            yield Problem(f"{there}: store.url", f"{root} is on no volume of the pool", "mount it in pool.yaml")
    url = environment.ledger_url or ""
    if url.startswith(SQLITE) and not pool.keeps(PurePosixPath("/") / url.removeprefix(SQLITE)):
        yield Problem(
            f"{there}: ledger_url",
            f"{url} is a file on no volume of the pool: each run would have a ledger of its own",
            "name a database that runs reach, e.g. postgresql://slipway@db/slipway",
        )


def _of_the_target(project: Project, pool: Pool) -> Iterator[Problem]:
    target, where = project.environment.target, f"{project.folder / 'environment.yaml'}: target"
    if isinstance(target, LocalTarget):
        given = project.environment.vllm.python is not None or "SLIPWAY_VLLM_PYTHON" in pool.env
        if not given:
            yield Problem(
                where,
                "it is local: a run would start vLLM beside itself, and Slipway's image has none",
                "name replicas that run elsewhere (target.kind: external or kubernetes), or vllm.python in your image",
            )
    if isinstance(target, DockerTarget):
        yield Problem(where, "it is docker: a run reaches no Docker engine", "target.kind: external or kubernetes")
    if isinstance(target, KubernetesTarget) and target.in_cluster and pool.kubernetes is None:
        yield Problem(f"{where}.in_cluster", "runs are no pods of that cluster", "name target.kubeconfig on a volume")
    if isinstance(target, KubernetesTarget) and target.in_cluster and pool.kubernetes is not None:
        if pool.kubernetes.service_account is None:
            cure = "name one in pool.yaml that may do what docs/kubernetes.md lists"
            yield Problem(f"{where}.in_cluster", "the pool's pods have no service account", cure)
    elif isinstance(target, KubernetesTarget) and not target.in_cluster and target.kubeconfig is None:
        yield Problem(where, "a run has no kubeconfig", "in_cluster: true, or target.kubeconfig on a volume")
