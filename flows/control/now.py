"""What the page Now shows of a route, as HTML in blocks that change at different times."""

import time
from collections.abc import Iterable
from html import escape

from configs.canonical import short
from configs.routing import FULL_BP
from delivery.checks.verdicts import CheckResult
from delivery.release.state import ReleaseState
from delivery.release.steps import place_of
from flows.cli.status import untold
from flows.control.curves import evidence_curve, number
from tasks.release.present import RoutePresent, UnderWay

WORDS = {"pass": "within", "fail": "worse", "inconclusive": "not yet", "error": "cannot tell"}
SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "…", "error": "!"}


def head(found: RoutePresent) -> str:
    """The route, who gets what, and what is live."""
    live = f"live: <code>{escape(short(found.live))}</code>" if found.live else "nothing is live yet: slipway up"
    before = f", before it: <code>{escape(short(found.previous))}</code>" if found.previous else ""
    table = "" if found.revision is None else f"table {found.revision}"
    lease = (
        ""
        if found.lease_remaining_s is None or not found.under_way
        else (f", the candidate's lease ends in {found.lease_remaining_s:.0f} s")
    )
    return (
        f"<h2>{escape(found.route)}</h2>"
        f'<p class="soft">environment {escape(found.environment)} &middot; {live}{before}</p>'
        f'{_shares(found)}<p class="soft small">{table}{lease}</p>'
    )


def _shares(found: RoutePresent) -> str:
    if found.shares is None:
        return "<p>Nobody knows the shares: no gateway answers, or none serves this route.</p>"
    parts, names = [], []
    for name, share_bp in sorted(found.shares.items(), key=lambda one: one[0] != found.stable):
        kind = "stable" if name == found.stable else "candidate"
        percent = f"{share_bp / FULL_BP * 100:g} %"
        parts.append(f'<span class="{kind}" style="flex:{max(share_bp, 1)}"></span>')
        names.append(f'<li class="{kind}"><code>{escape(name)}</code> <strong>{percent}</strong> ({kind})</li>')
    said = ", ".join(f"{name} {bp / FULL_BP * 100:g} %" for name, bp in found.shares.items())
    return (
        f'<div class="bar" role="img" aria-label="Shares of users: {escape(said)}">{"".join(parts)}</div>'
        f'<ul class="key">{"".join(names)}</ul>'
    )


def alerts(found: RoutePresent) -> str:
    """What somebody should look at; empty when there is nothing."""
    texts = [f"{part}" for part in found.down]
    texts += [f"gateway {name} does not answer" for name in found.silent]
    texts += [f"gateway {name} serves another table" for name in found.behind]
    if found.left_behind:
        texts.append(
            f"the rollback of {found.left_behind} lost its process: the supervisor, or a rollback, finishes it"
        )
    under_way = found.under_way
    if under_way is not None:
        texts += [_alert(under_way, key) for key in under_way.state.alerts]
        if not under_way.controller:
            texts.append("no controller drives this release: the same release started again goes on where it was")
    texts += [line.removeprefix("untold").strip() for line in untold(found.untold, found.at)]
    if not texts:
        return ""
    items = "".join(f"<li><strong>!</strong> {escape(text)}</li>" for text in texts)
    return f'<div class="says bad"><ul>{items}</ul></div>'


def _alert(under_way: UnderWay, key: str) -> str:
    state, clocks = under_way.state, under_way.state.clocks
    texts = {
        "monitor": f"no records from a gateway for {clocks.silent_s:.0f} s: the release holds",
        "judge": f"the judge does not answer: {state.evidence.judging.error}",
        "quiet": "nobody asks: the stage waits for traffic",
        "suspended": f"{state.candidate.variant.model} is missing on a replica: all traffic is on stable",
        "approval": "nobody answered for the stage in time: it still waits",
        "dropped": f"{state.evidence.dropped} records were lost before they could be read",
        "tripped": f"the gateway keeps users from {state.candidate.name}; the checks decide",
    }
    return texts.get(key, key)


def stages(found: RoutePresent) -> str:
    """The release under way, stage by stage; empty without one."""
    under_way = found.under_way
    if under_way is None:
        return "<p>No release is under way.</p>"
    state = under_way.state
    rows = "".join(_stage(under_way, index) for index in range(len(under_way.plan.stages)))
    return (
        f'<h3>Release <a href="/history/release/{escape(state.release_id)}">{escape(state.release_id)}</a></h3>'
        f"<p>bundle <code>{escape(short(state.candidate.bundle))}</code>, beside"
        f" <code>{escape(short(state.stable.bundle))}</code> &middot; <strong>{escape(place_of(under_way.plan, state))}"
        f'</strong></p><ol class="stages">{rows}</ol>'
    )


def _stage(under_way: UnderWay, index: int) -> str:
    state, plan = under_way.state, under_way.plan
    stage, name = plan.stages[index], plan.stage_name(index)
    record = next((one for one in state.stages if one.stage == name), None)
    share = f"{stage.size_bp / 100:g} %" if stage.size_bp else ""
    if record is not None:
        kind = "passed" if record.verdict == "pass" else "back"
        word = "✓ passed" if record.verdict == "pass" else "✗ taken back"
        text = f"{record.requests} requests, {record.seconds:.0f} s"
    elif state.phase == "stage" and index == state.stage_index:
        kind, word = "now", "▶ now"
        text = f"{_count(state, under_way)} of {stage.min_requests} requests, {_stage_s(under_way):.0f} s"
    else:
        kind, word, text = "later", "○ later", f"at least {stage.min_requests} requests"
    return (
        f'<li class="{kind}"><span class="what">{escape(stage.kind)} {share}</span>'
        f'<span>{word}</span><br><span class="soft small">{text}</span></li>'
    )


def _count(state: ReleaseState, under_way: UnderWay) -> int:
    return under_way.judgement.facts.candidate_requests if under_way.judgement else state.evidence.candidate.requests


def _stage_s(under_way: UnderWay) -> float:
    return under_way.state.clocks.stage_s


def checks(found: RoutePresent) -> str:
    """What was compared, how the evidence stands, and when the next pass is possible."""
    under_way = found.under_way
    if under_way is None or under_way.judgement is None:
        reason = under_way.state.reason if under_way is not None else ""
        return f"<p>{escape(reason)}</p>" if reason else ""
    judgement = under_way.judgement
    needed, gating = 1 / judgement.facts.alpha, sum(one.on_fail != "warn" for one in judgement.results)
    arms = under_way.state.evidence
    counted = (
        f"<p>Verdict: <strong>{SIGNS[judgement.verdict]} {WORDS[judgement.verdict]}</strong>. Counted: candidate"
        f" {arms.candidate.requests} requests ({arms.candidate.errors} errors), stable {arms.stable.requests}"
        f" ({arms.stable.errors} errors). All checks together: evidence {number(judgement.e_value)} of {needed:g}"
        " that it is worse.</p>"
    )
    cards = "".join(_check(one, under_way, needed, gating) for one in judgement.results)
    return f'{counted}{_next(under_way)}<div class="checks">{cards}</div>'


def _next(under_way: UnderWay) -> str:
    waits = under_way.next_pass
    if under_way.state.awaiting_approval:
        return "<p><strong>Passed; it waits for a named person's approval.</strong></p>"
    if waits is None:
        return ""
    if waits.seconds is None:
        return f"<p>Next pass: not as things are; it waits for {escape(waits.waits_for)}.</p>"
    when = "now" if waits.seconds < 1 else f"in about {spell(waits.seconds)} at the earliest"
    return f"<p>Next pass possible <strong>{when}</strong>; it waits for {escape(waits.waits_for)}.</p>"


def spell(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _check(result: CheckResult, under_way: UnderWay, needed: float, gating: int) -> str:
    needed_worse = needed if result.on_fail == "warn" else needed * gating
    curve = evidence_curve(result, under_way.curves.get(result.check, ()), needed, needed_worse)
    return (
        f'<section class="check"><h4><span>{escape(result.check)}</span>{badge(result.verdict)}</h4>{curve}'
        f'<p class="small">{escape(result.comparison)} &middot; else: {escape(result.on_fail)}</p>'
        f'<p class="small soft">worse {number(result.e_worse)} of {needed_worse:g} &middot; within'
        f" {number(result.e_better)} of {needed:g}</p></section>"
    )


def badge(verdict: str) -> str:
    """A verdict by sign, word and colour."""
    return f'<span class="badge {verdict}">{SIGNS.get(verdict, "")} {WORDS.get(verdict, verdict)}</span>'


def clock(at: float) -> str:
    """UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) + " UTC"


def table(names: Iterable[str], rows: Iterable[Iterable[str]], caption: str) -> str:
    """Rows of HTML cells."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide" role="region" aria-label="{escape(caption)}" tabindex="0"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
