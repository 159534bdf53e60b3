"""A way forward where stable itself is broken: the base takes its place, and absolute limits alone are left."""

from dataclasses import replace

from pydantic import ValidationError

from configs.errors import SlipwayError
from configs.project import Project
from delivery.build.bundle import Bundle
from delivery.clients.ledger.errors import named
from delivery.release.state import ReleaseState
from tasks.release.site import Site


def over_broken_stable(project: Project) -> Project:
    """The project with what its release plan can still judge. SlipwayError: that is nothing in some stage."""
    try:
        return replace(project, rollout=project.rollout.without_stable())
    except ValidationError as error:
        wrong = "; ".join(str(problem["msg"]).removeprefix("Value error, ") for problem in error.errors())
        raise SlipwayError(
            f"without stable this release plan has nothing to judge by: {wrong}",
            where=f"{project.folder}/rollout.yaml",
            cure="give each stage a check with an absolute limit (max), e.g. error_rate max 0.05",
        ) from error


def give_up_stable(site: Site, bundle: Bundle, by: str, reason: str) -> ReleaseState | None:
    """Asks for what is live to be taken back to the base, not ruled out; its release.

    None where there is nothing to give up: the base is live, or the bundle itself.
    """
    named(by, reason)
    pointers = site.require_route(bundle.route)
    made_live = site.ledger.release_that_made_live(site.name, bundle.route, pointers.live.bundle)
    if made_live is None or pointers.live.bundle in (pointers.base.bundle, bundle.digest):
        return None
    why = f"stable is broken, and released over: {reason}"
    site.ledger.add_command(made_live.release_id, "rollback", by, why, site.clock(), pointers.base, quarantine=False)
    return made_live
