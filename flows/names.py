"""Short names for runs, as Prefect's pages list them: `tutor 1a204a70 release`."""

from collections.abc import Callable
from pathlib import Path

from prefect.runtime import flow_run

DIGITS = 8


def named(verb: str) -> Callable[[], str]:
    """For `flow_run_name`: the project's folder, the bundle where the flow is given one, and the verb."""

    def name() -> str:
        given = flow_run.get_parameters()
        words = [Path(str(given.get("project", ""))).name, brief(str(given.get("bundle") or "")), verb]
        return " ".join(word for word in words if word)

    return name


def brief(digest: str) -> str:
    """The beginning of a digest."""
    return digest.removeprefix("sha256:")[:DIGITS]
