"""Doors for machines: the verdict on what is released on a route, for pipelines and other delivery tools.

It is the verdict of the checks on the evidence that the route's release has now, read as the page reads it.
"""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Response
from pydantic import BaseModel, Field

from delivery.checks.verdicts import CheckResult
from flows.control.room import Room
from tasks.release.present import RoutePresent

RouteVerdict = Literal["worse", "within", "not yet", "monitor away"]
RouteName = Annotated[str, Path(max_length=120, description="The route: the model's name that clients ask for.")]


class CheckEvidence(BaseModel):
    """One check: what was compared, and how strong the evidence is on both sides."""

    check: str
    verdict: RouteVerdict
    sentence: str = Field(description="The comparison in words.")
    on_fail: str = Field(description="What its failure means: rollback, pause or warn.")
    candidate: float | None
    stable: float | None
    limit: float | None
    candidate_requests: int
    stable_requests: int
    evidence_worse: float = Field(description="E-value against the candidate being within its limit.")
    evidence_within: float = Field(description="E-value against the candidate being worse than its limit.")


class VerdictAnswer(BaseModel):
    """The verdict on a route's newest release: `worse`, `within`, `not yet`, `monitor away` are four things."""

    route: str
    environment: str
    verdict: RouteVerdict
    reason: str
    at: float = Field(description="When it was looked at, UNIX seconds.")
    release_id: str | None = None
    bundle: str | None = None
    phase: str | None = None
    stage: str | None = None
    awaiting_approval: bool = False
    evidence_needed: float | None = Field(None, description="The e-value that suffices: 1/alpha.")
    evidence_worse: float | None = Field(None, description="Of all gating checks together.")
    checks: list[CheckEvidence] = Field(default_factory=list)


class ApiProblem(BaseModel):
    """Why there is no answer."""

    detail: str


WORDS: dict[str, RouteVerdict] = {"fail": "worse", "pass": "within", "inconclusive": "not yet", "error": "monitor away"}
RESPONSES = {
    401: {"model": ApiProblem, "description": "No token, or one that is not known."},
    403: {"model": ApiProblem, "description": "The token's role does not allow it."},
    404: {"model": ApiProblem, "description": "The control room does not show this route."},
    503: {"model": ApiProblem, "description": "The ledger or the environment cannot be read."},
}


def verdict_routes(room: Room) -> APIRouter:
    """`GET /api/v1/routes/{route}/verdict`, and the two questions that a webhook asks with POST."""
    router = APIRouter(prefix="/api/v1", tags=["verdict"], responses=RESPONSES)  # type: ignore[arg-type]

    async def answer(route: str) -> VerdictAnswer:
        if route not in {project.route for project in room.projects}:
            known = ", ".join(project.route for project in room.projects)
            raise HTTPException(404, f"the control room has no route {route!r}; it has {known}")
        look = await asyncio.to_thread(room.look, route)
        if look.found is None:
            raise HTTPException(503, look.problem)
        return verdict_of(look.found)

    @router.get("/routes", operation_id="routes", summary="The routes that can be asked about")
    async def routes() -> list[str]:
        return [project.route for project in room.projects]

    @router.get("/routes/{route}/verdict", operation_id="verdict", summary="The verdict on the release under way")
    async def verdict(route: RouteName) -> VerdictAnswer:
        return await answer(route)

    refused = {409: {"model": VerdictAnswer, "description": "It is not so (yet)."}}

    @router.post(
        "/routes/{route}/verdict/{word}",
        operation_id="ask",
        summary="200 if this is the verdict, else 409: for webhooks that only look at the status",
        responses=refused,  # type: ignore[arg-type]
    )
    async def ask(route: RouteName, word: Literal["within", "worse"], response: Response) -> VerdictAnswer:
        found = await answer(route)
        response.status_code = 200 if found.verdict == word else 409
        return found

    return router


def verdict_of(found: RoutePresent) -> VerdictAnswer:
    """What a look at a route means for a machine. A pure function."""
    under_way, state = found.under_way, found.newest
    judgement = under_way.judgement if under_way is not None else None
    word, reason = _word(found)
    return VerdictAnswer(
        route=found.route,
        environment=found.environment,
        at=found.at,
        verdict=word,
        reason=reason,
        release_id=state.release_id if state else None,
        bundle=state.candidate.bundle if state else None,
        phase=state.phase if state else None,
        stage=under_way.plan.stage_name(under_way.state.stage_index) if judgement and under_way else None,
        awaiting_approval=state.awaiting_approval if state else False,
        evidence_needed=1 / judgement.facts.alpha if judgement else None,
        evidence_worse=judgement.e_value if judgement else None,
        checks=[_check(result) for result in judgement.results] if judgement else [],
    )


def _word(found: RoutePresent) -> tuple[RouteVerdict, str]:
    state, under_way = found.newest, found.under_way
    if state is None:
        return "not yet", "nothing was ever released on this route"
    if state.rollback is not None:
        return "worse" if state.rollback.quarantine else "not yet", state.rollback.reason
    if state.phase == "live":
        return "within", "the release went through all its stages"
    if under_way is None:
        return "not yet", state.reason
    away = _away(found)
    if away:
        return "monitor away", away
    if under_way.judgement is None:
        return "not yet", state.reason or "nothing is judged in this phase"
    return WORDS[under_way.judgement.verdict], under_way.judgement.reason


def _away(found: RoutePresent) -> str:
    under_way = found.under_way
    if found.silent:
        return f"no answer from {', '.join(found.silent)}"
    if under_way is not None and not under_way.controller:
        return "no controller drives the release"
    return ""


def _check(result: CheckResult) -> CheckEvidence:
    return CheckEvidence(
        check=result.check,
        verdict=WORDS[result.verdict],
        sentence=result.sentence,
        on_fail=result.on_fail,
        candidate=result.candidate,
        stable=result.stable,
        limit=result.limit,
        candidate_requests=result.candidate_requests,
        stable_requests=result.stable_requests,
        evidence_worse=result.e_worse,
        evidence_within=result.e_better,
    )
