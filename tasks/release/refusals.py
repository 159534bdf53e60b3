"""Why a bundle must not be released, by what it is, by what the ledger has against it, and by the hour."""

from collections.abc import Sequence

from configs.canonical import short
from configs.project import Project
from delivery.build.bundle import Bundle
from delivery.progress import Progress
from delivery.release.hours import seconds_until_open
from tasks.release.site import Site

LOOK_AT_CLOCK_S = 30.0  # while it waits for release hours


def why_not_here(project: Project, bundle: Bundle, candidate_upstreams: Sequence[str] | None = None) -> str:
    """Why a bundle does not belong to this project; empty when it does. `candidate_upstreams`: vLLM of its own."""
    if bundle.route != project.route:
        return f"bundle {short(bundle.digest)} is for route {bundle.route}, not {project.route}"
    if why_other_form(bundle, candidate_upstreams):
        return why_other_form(bundle, candidate_upstreams)
    if bundle.base_model != project.model.name:
        return f"bundle {short(bundle.digest)} needs base model {bundle.base_model}, served is {project.model.name}"
    return ""


def why_other_form(bundle: Bundle, candidate_upstreams: Sequence[str] | None = None) -> str:
    """Why a bundle is not of a form that these replicas serve; empty when it is. A merged model is not an adapter."""
    if bundle.merged is None or candidate_upstreams:
        return ""
    return (
        f"bundle {short(bundle.digest)} is a merged model, which needs a vLLM of its own: name it with "
        f"--candidate-upstream (docs/bundles.md, Merged), or release the bundle that it was made of: "
        f"slipway release {short(bundle.parent or '')}"
    )


def why_unfit(site: Site, bundle: Bundle) -> str:
    """Why the ledger says that a bundle must not be released; empty when it may."""
    quarantined = site.ledger.quarantined(bundle.digest)
    if quarantined:
        cure = f"if that was not its fault: slipway lift-quarantine {short(bundle.digest)} --reason TEXT"
        return f"bundle {short(bundle.digest)} is quarantined: {quarantined}; {cure}"
    return _gate_refusal(site, bundle)


def _gate_refusal(site: Site, bundle: Bundle) -> str:
    """What the eval gate has against a bundle. The base without an adapter needs no gate: it is the fallback."""
    if bundle.trained is None:
        return ""
    gate = site.ledger.gate(bundle.digest)
    if gate is None:
        return f"bundle {short(bundle.digest)} was never judged by the eval gate of this ledger: build it first"
    wrong = "; ".join(finding.sentence for finding in gate.findings if finding.verdict != "pass")
    return "" if gate.passed else f"the eval gate refused bundle {short(bundle.digest)}: {wrong}"


def wait_for_hours(site: Site, project: Project, at_any_hour: bool, on_progress: Progress) -> str:
    """Waits until a release may begin; why it may not, where that is too far off. What is under way does not wait."""
    hours = project.rollout.release_hours
    if hours is None or at_any_hour or site.ledger.unfinished(site.name, project.route) is not None:
        return ""
    left_s = first_s = seconds_until_open(hours, site.clock())
    if left_s > hours.wait_at_most_s:
        return (
            f"the release hours open in {left_s / 3600:.1f} h, later than wait_at_most_s {hours.wait_at_most_s:g}; a"
            " person may release at any hour: --at-any-hour"
        )
    while left_s > 0:
        on_progress(0, 0, f"waiting for the release hours, for {left_s / 3600:.1f} h ({first_s / 3600:.1f} h in all)")
        site.sleep(min(left_s, LOOK_AT_CLOCK_S))
        left_s = seconds_until_open(hours, site.clock())
    return ""
