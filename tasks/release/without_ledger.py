"""A rollback while the ledger cannot be reached: users first, by the gateways' own table; the record comes after.

What was done is noted on disk. The controller of the release obeys the note; the supervisor, the next release and the
next rollback put it on record when the ledger is back, and take it to its end.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from configs.environment import Environment
from configs.errors import SlipwayError
from delivery.clients.gateway import GatewayClient
from delivery.clients.ledger.ledger import LedgerError
from delivery.clients.vllm import VllmClient
from delivery.progress import Progress
from delivery.release.routes import table_with
from delivery.release.state import GatewaySeen, Observation, Served
from delivery.release.way_back import StepBack, TakenBack, present, step_back
from tasks.release.gateways import failures, put, tables
from tasks.release.rollback_outcome import RollbackOutcome
from tasks.release.start import load_proved
from tasks.release.way_back import leave_note, notes, tell_of_note, way_back
from tasks.serving.target import Target
from tasks.serving.targets import target_of


def take_back_without_ledger(
    environment: Environment,
    home: Path,
    gateways: Mapping[str, GatewayClient],
    vllm: Callable[[str], VllmClient],
    asked: TakenBack,
    *,
    why: LedgerError,
    on_progress: Progress,
) -> RollbackOutcome:
    """Gives stable all traffic on every gateway that answers. `asked.release_id` is the name that was given, or "".

    SlipwayError where neither the gateways nor a note tell what is to be served.
    """
    on_progress(0, 2, f"the ledger cannot be reached, users come first: {why.what}")
    seen = tables(gateways)
    step = _newest_step(seen, environment, home, asked, why)
    if step.standing == "unknown":
        raise _unknown(asked, step, environment, why)
    asked = asked.model_copy(update={"release_id": step.release_id})
    noted = next((file for file, one in notes(home, environment.name) if one.release_id == step.release_id), None)
    serves, problem = _serving(seen, asked.route), ""
    if step.wanted is not None:
        table = table_with(asked.route, step.wanted, Observation(gateways=seen, replicas={}), _lease_s(seen))
        serves, problem = step.wanted.stable, _load(step.loads, vllm, target_of(environment, home))
        problem = problem or failures(put(gateways, seen, table), len(gateways))
        on_progress(1, 2, problem or f"all traffic of {asked.route} is on {serves}")
        if not problem and noted is None:
            noted = leave_note(home, environment.name, asked)
    if noted is not None:
        tell_of_note(environment, noted, serves)
    left = f"all traffic of {asked.route} is on {serves}"
    if problem:
        left = f"traffic of {asked.route} could NOT be moved to {serves}: {problem}; see to that, and give it again"
    left += f"; the ledger cannot be reached ({why.what})"
    if noted is not None:
        left += f", this is noted in {noted} and goes on record when it is back. Unloading and quarantine wait for that"
    return RollbackOutcome(
        release_id=step.release_id,
        route=asked.route,
        outcome="under_way" if problem or noted is not None else "nothing_to_do",
        serves=serves,
        reason=f"release {step.release_id} taken back by {asked.by}: {asked.reason}"
        if step.wanted is not None
        else f"release {step.release_id} was taken back before; {serves} serves route {asked.route}",
        problem=left if problem or noted is not None else "",
    )


def _newest_step(
    seen: Mapping[str, GatewaySeen | None], environment: Environment, home: Path, asked: TakenBack, why: LedgerError
) -> StepBack:
    tables = [one.table for one in seen.values() if one is not None and one.table is not None]
    table = max(tables, key=lambda one: one.revision, default=None)
    if table is None or asked.route not in table.routes:
        what = "no gateway answers" if table is None else f"no gateway serves route {asked.route}"
        raise SlipwayError(f"nothing was taken back: {what}, and {why.what}", where=why.where, cure=why.cure)
    note = way_back(home, environment.name, asked.route)
    members = target_of(environment, home).members() if note is not None and note.base.follows else None
    if note is not None and members is not None:
        note = present(note, members.replicas)
    return step_back(table.routes[asked.route], note, asked.release_id, asked.to)


def _unknown(asked: TakenBack, step: StepBack, environment: Environment, why: LedgerError) -> SlipwayError:
    what = "the gateways' table does not tell what was served before, and this machine has no note of it"
    if asked.release_id and asked.release_id != step.release_id:
        what = f"{asked.release_id!r} is not what the gateways serve"
    return SlipwayError(
        f"nothing was taken back: {what}; the ledger, which knows, cannot be reached: {why.what}",
        where=f"route {asked.route}, environment {environment.name}",
        cure=why.cure,
    )


def _serving(seen: Mapping[str, GatewaySeen | None], route: str) -> str:
    tables = [one.table for one in seen.values() if one is not None and one.table is not None]
    return max(tables, key=lambda table: table.revision).routes[route].stable


def _lease_s(seen: Mapping[str, GatewaySeen | None]) -> float:
    tables = [one.table for one in seen.values() if one is not None and one.table is not None]
    return max(tables, key=lambda table: table.revision).lease_s


def _load(served: Served | None, vllm: Callable[[str], VllmClient], target: Target) -> str:
    """What was not in use for a while may have been forgotten by vLLM since; the error."""
    if served is None or served.adapter_path is None:
        return ""
    try:
        for url in served.variant.upstreams:
            load_proved(target, vllm(url), url, served.variant.model, served.adapter_path)
    except SlipwayError as error:
        return str(error)
    return ""
