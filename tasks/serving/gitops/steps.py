"""What a step of a release makes of the file in Git, and the words that it is committed with. Pure."""

from collections.abc import Mapping
from typing import Any

import yaml

from configs.canonical import short
from configs.errors import SlipwayError
from configs.gitops import ChartAdapter, ChartCandidate, ChartHoldback, ChartRoute, ChartVariant
from configs.routing import Policy, Route, Variant
from delivery.release.state import Decision, Served

HEADER = "# Slipway writes this file; each commit says why. A change by hand is overwritten by the next step.\n"
NOT_KEPT = {"upstreams"}  # pods come and go


class OtherReleaseError(SlipwayError):
    """Another release's candidate is in the file: two controllers would take each other's steps back."""


def chart_route(route: Route, release: str, base: Served, base_model: str) -> ChartRoute:
    """A route of the gateways' table as the chart's values say it. `base`: what `default: null` serves."""
    variants = {base.name: base.variant, **route.variants}
    candidate = route.candidate
    has_users = candidate is not None and (candidate.share_bp > 0 or candidate.mirror_bp > 0)
    return ChartRoute(
        salt=route.salt,
        epoch=release,
        base_model=base_model,
        base=base.name,
        default=None if route.stable == base.name else route.stable,
        candidate=ChartCandidate(
            variant=candidate.variant,
            mode="canary" if candidate.share_bp > 0 else "shadow",
            share_percent=(candidate.share_bp or candidate.mirror_bp) / 100,
        )
        if candidate is not None and has_users
        else None,
        holdback=None
        if route.holdback is None
        else ChartHoldback(variant=route.holdback.variant, share_percent=route.holdback.share_bp / 100),
        variants={name: _variant(variant) for name, variant in sorted(variants.items())},
        policy=None if route.policy == Policy() else route.policy,
        contract=route.contract,
    )


def started(text: str, name: str, route: ChartRoute, adapters: Mapping[str, ChartAdapter]) -> str:
    """The file's text before a release's first step: its adapters are loaded, and users get what they got.

    `route`: what is served, for a file that does not know it yet. Adapters that no route names any more are dropped
    here and at no other time: while pods are replaced, gateways still ask for what the file named a moment ago.
    Raises OtherReleaseError as `stepped` does.
    """
    said = read(text)
    routes = {name: route.model_dump(mode="json", exclude_none=True) | {"default": route.default}}
    routes |= said.get("routes", {})
    _require_mine(routes[name], route, name)
    named = {variant["model"] for one in routes.values() for variant in one["variants"].values()}
    kept = {model: one for model, one in said.get("adapters", {}).items() if model in named}
    return _text(_with_adapters({"adapters": kept, "routes": routes}, adapters))


def stepped(text: str, name: str, route: ChartRoute, adapters: Mapping[str, ChartAdapter]) -> str:
    """The file's text with this route; others' routes stay. `adapters`: by model name, of this route's variants.

    Raises OtherReleaseError while another release's candidate is there.
    """
    said = read(text)
    routes = {**said.get("routes", {})}
    _require_mine(routes.get(name) or {}, route, name)
    routes[name] = route.model_dump(mode="json", exclude_none=True) | {"default": route.default}
    return _text(_with_adapters(said | {"routes": routes}, adapters))


def with_adapters(text: str, adapters: Mapping[str, ChartAdapter]) -> str:
    """The file's text with these adapters among those that are loaded."""
    return _text(_with_adapters(read(text), adapters))


def with_default(text: str, name: str, default: str | None) -> str:
    """The file's text with all users of a route on this variant; None: the base model with its long prompt."""
    said = read(text)
    route = said.get("routes", {}).get(name)
    if route is None:
        known = ", ".join(sorted(said.get("routes", {}))) or "no route"
        raise SlipwayError(f"route {name} is not in the file, which has {known}")
    route = {key: value for key, value in route.items() if key not in ("candidate", "holdback")} | {"default": default}
    checked = ChartRoute.model_validate(route)
    return _text(said | {"routes": said["routes"] | {name: route | {"default": checked.default}}})


def read(text: str) -> dict[str, Any]:
    """The file's content. Raises SlipwayError for something that is no mapping."""
    try:
        said = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise SlipwayError(f"the file in Git is not YAML: {error}", cure="revert the commit that broke it") from error
    if not isinstance(said, dict):
        raise SlipwayError("the file in Git has no keys", cure="revert the commit that broke it")
    return said


def subject(route: str, said: ChartRoute, bundle: str) -> str:
    """One line: what users get from here on."""
    if said.candidate is not None:
        what = f"{said.candidate.mode} {said.candidate.share_percent:g} % of {short(bundle)}"
    else:
        held = "" if said.holdback is None else f", {said.holdback.share_percent:g} % held back"
        what = f"all users on {said.default or said.base}{held}"
    return f"{route}: {what}"[:72]


def message(title: str, decision: Decision, trailer: str) -> str:
    """The title, why, what was compared, and trailers that a program reads."""
    state = decision.state
    evidence = [f"- {result.sentence}" for result in decision.results]
    stages = [
        f"- stage {one.stage}: {one.verdict} after {one.seconds:.0f} s, with {one.requests} requests of the candidate"
        f" and {one.stable_requests} of stable"
        for one in state.stages
    ]
    trailers = [
        f"{trailer}: {state.release_id}",
        f"Slipway-Bundle: {state.candidate.bundle}",
        f"Slipway-Environment: {state.environment}",
    ]
    paragraphs = [title, decision.reason, "\n".join(stages), "\n".join(evidence), "\n".join(trailers)]
    return "\n\n".join(part for part in paragraphs if part)


def _require_mine(there: Mapping[str, Any], route: ChartRoute, name: str) -> None:
    if there.get("candidate") and there.get("epoch") != route.epoch:
        raise OtherReleaseError(
            f"release {there.get('epoch')} is under way on route {name}, by another controller",
            where="routes in the file",
            cure="let that release end or take it back; one environment has one ledger",
        )


def _with_adapters(said: Mapping[str, Any], adapters: Mapping[str, ChartAdapter]) -> dict[str, Any]:
    more = {name: adapter.model_dump(mode="json", exclude_none=True) for name, adapter in adapters.items()}
    known = {**said.get("adapters", {}), **more}
    return {"adapters": {name: known[name] for name in sorted(known)}, "routes": said.get("routes", {})}


def _variant(variant: Variant) -> ChartVariant:
    return ChartVariant.model_validate(variant.model_dump(mode="json", exclude=NOT_KEPT))


def _text(said: Mapping[str, Any]) -> str:
    return HEADER + yaml.safe_dump(dict(said), sort_keys=False, allow_unicode=True, width=120)
