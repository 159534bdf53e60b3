"""What the pages of the past show, as HTML: periods, releases, one release's story, a decision, bundles, a request."""

import json
from collections.abc import Iterable
from html import escape
from typing import Any
from urllib.parse import quote

from configs.canonical import short
from delivery.build.bundle import Bundle
from delivery.checks.explain import Explanation
from delivery.release.state import StageRecord
from flows.cli.explain import render as explained
from flows.control.now import badge, clock, spell, table
from tasks.release.history import AnswerOrigin, Difference, Period, Story

PHASES = {"live": "✓ live", "rolled_back": "✗ taken back", "refused": "✗ refused"}


def periods(route: str, found: list[Period]) -> str:
    """What was live when."""
    rows = [
        (
            f"<code>{escape(one.variant)}</code>",
            clock(one.since),
            "<strong>still live</strong>" if one.until is None else clock(one.until),
            release_link(one.release_id) if one.release_id else "",
            escape(one.why),
        )
        for one in found
    ]
    names = ("variant", "from", "until", "release", "why")
    return f"<h2>What was live on {escape(route)}</h2>{table(names, rows, f'What was live on {route}')}"


def releases(route: str, found: Iterable[dict[str, Any]]) -> str:
    """A route's releases, newest first."""
    rows = [
        (
            release_link(one["id"]),
            clock(one["started_at"]),
            escape(PHASES.get(one["phase"], f"▶ {one['phase']}")),
            bundle_link(one["bundle"]),
            escape(one["reason"]),
        )
        for one in found
    ]
    names = ("release", "began", "state", "bundle", "reason")
    return f"<h2>Releases on {escape(route)}</h2>{table(names, rows, f'Releases on {route}')}"


def events(found: Iterable[dict[str, Any]]) -> str:
    """Who did what, newest first."""
    rows = [
        (clock(one["at"]), escape(one["who"]), escape(one["kind"].replace("_", " ")), escape(one["text"]))
        for one in found
    ]
    return f"<h2>Who did what</h2>{table(('when', 'who', 'what', 'more'), rows, 'Who did what')}"


def release_link(release_id: str) -> str:
    """To a release's story."""
    return f'<a href="/history/release/{quote(release_id)}">{escape(release_id)}</a>'


def bundle_link(digest: str) -> str:
    """To a bundle beside nothing yet."""
    return f'<a href="/bundles?first={quote(digest)}"><code>{escape(short(digest))}</code></a>'


def story(found: Story) -> str:
    """One release: how it ended, its stages with their evidence, who had a part in it, and each decision."""
    state, note = found.state, found.state.rollback
    both = f"/bundles?first={quote(state.stable.bundle)}&amp;second={quote(state.candidate.bundle)}"
    head = (
        f"<p><strong>{escape(PHASES.get(state.phase, state.phase))}</strong> on route {escape(state.route)}:"
        f" {escape(note.reason if note else state.reason)}</p>"
        f"<p>Bundle {bundle_link(state.candidate.bundle)}, compared with {bundle_link(state.stable.bundle)}"
        f' (<a href="{both}">what differs</a>).'
        f" It began {clock(found.started_at)} and was last decided on {clock(found.updated_at)}.</p>"
    )
    if note is not None:
        head += f"<p>Taken back by <strong>{escape(note.by)}</strong>{_how_fast(found)}.</p>"
    stages = table(
        ("stage", "share", "verdict", "candidate", "stable", "time", "evidence"), map(_stage, state.stages), "Stages"
    )
    return f"{head}<h2>Stages</h2>{stages}<h2>People</h2>{_people(found)}<h2>Decisions</h2>{_decisions(found)}"


def _how_fast(found: Story) -> str:
    note = found.state.rollback
    if note is None or note.confirmed_at is None:
        return ""
    return f", and every gateway served stable alone {note.confirmed_at - note.decided_at:.2f} s later"


def _stage(one: StageRecord) -> tuple[str, ...]:
    return (
        escape(one.stage),
        f"{one.share_bp / 100:g} %" if one.share_bp else "",
        badge(one.verdict),
        str(one.requests),
        str(one.stable_requests),
        spell(one.seconds),
        "<br>".join(escape(sentence) for sentence in one.evidence),
    )


def _people(found: Story) -> str:
    rows = [(one["at"], one["who"], one["kind"].replace("_", " "), one["text"]) for one in found.events]
    rows += [
        (
            one["at"],
            one["by"],
            f"{'approved' if one['approved'] else 'rejected'} stage {one['stage_index']}",
            one["reason"],
        )
        for one in found.approvals
    ]
    rows += [(one["at"], one["by"], f"asked for {one['kind']}", one["reason"]) for one in found.commands]
    cells = [(clock(at), escape(who), escape(what), escape(why)) for at, who, what, why in sorted(rows)]
    return table(("when", "who", "what", "why"), cells, "People")


def _decisions(found: Story) -> str:
    release_id = found.state.release_id
    rows = [
        (
            f'<a href="/history/decision/{quote(release_id)}/{one["id"]}">{clock(one["at"])}</a>',
            escape(f"{one['phase']} {one['stage_index']}"),
            badge(one["verdict"]),
            escape(one["reason"]),
            escape(", ".join(action["action"].replace("_", " ") for action in one["actions"])),
        )
        for one in found.decisions
    ]
    return table(("when", "where", "verdict", "reason", "then"), rows, "Decisions")


def decision(found: Explanation) -> str:
    """One decision: what was compared, and the same computed again from it."""
    again = "Nothing was judged in it."
    if found.again is not None:
        same = not found.differences
        again = "Computed again from the recorded values: " + (
            "<strong>✓ the same</strong>."
            if same
            else f"<strong>✗ not the same</strong>: {escape('; '.join(found.differences))}"
        )
    kind = "says bad" if found.differences else "says"
    return (
        f'<p>{release_link(found.release_id)}, {badge(found.verdict)}</p><div class="{kind}"><p>{again}</p></div>'
        f'<pre class="small" tabindex="0" aria-label="Everything that was compared">{escape(explained(found))}</pre>'
    )


def compared(first: Bundle, second: Bundle, found: list[Difference]) -> str:
    """Two bundles: their scores side by side, and every field in which they differ."""
    names = ("field", short(first.digest), short(second.digest))
    suites = dict.fromkeys([*first.evals, *second.evals])
    scores = [(escape(name), _score(first, name), _score(second, name)) for name in suites]
    rows = [
        (f"<code>{escape(one.field)}</code>", _cell(one.first), _cell(one.second))
        for one in found
        if not one.field.startswith("evals.")
    ]
    same = "" if rows else "<p>They do not differ in anything else.</p>"
    return (
        f"<h2>Scores</h2>{table(('suite', *names[1:]), scores, 'Scores')}"
        f"<h2>Data, settings, prompts</h2>{table(names, rows, 'Differences')}{same}"
    )


def one_bundle(bundle: Bundle) -> str:
    """A bundle's whole manifest."""
    text = json.dumps(bundle.model_dump(mode="json"), indent=2, ensure_ascii=False)
    return f'<h2>Bundle {escape(short(bundle.digest))}</h2><pre class="small" tabindex="0">{escape(text)}</pre>'


def _score(bundle: Bundle, suite: str) -> str:
    found = bundle.evals.get(suite)
    if found is None or found.score is None:
        return "-"
    around = "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.score:.2f}{around} (n={found.n})"


def _cell(text: str) -> str:
    return f'<span style="white-space:pre-wrap">{escape(text)}</span>' if text else '<span class="soft">-</span>'


def behind(found: list[AnswerOrigin], request_id: str) -> str:
    """Everything behind the model that answered a request."""
    if not found:
        return (
            f"<p>No gateway remembers request <code>{escape(request_id)}</code>, and no traffic log on this machine"
            " holds it. A gateway remembers its newest requests, a traffic log more (gateway.traffic_log).</p>"
        )
    return "".join(_attempt(one) for one in found)


def _attempt(one: AnswerOrigin) -> str:
    record, bundle = one.record, one.bundle
    kept = ", ".join(f"{name}: {'broken' if is_broken else 'kept'}" for name, is_broken in record.verdicts.items())
    facts = {
        "answered by": f"<code>{escape(record.variant)}</code> as {escape(record.role)}",
        "when": f"{clock(record.started_at)}, {record.duration_s:.2f} s",
        "outcome": escape(f"status {record.status}{', ' + record.error if record.error else ''}"),
        "tokens": f"{record.prompt_tokens or '-'} in, {record.completion_tokens or '-'} out",
        "contract": escape(kept or "-"),
        "release": release_link(one.release_id) if one.release_id else "none: what was live",
        "table": str(one.revision) if one.revision is not None else "-",
        "found in": escape(one.source),
    }
    if bundle is not None:
        adapter = bundle.adapter
        facts |= {
            "bundle": bundle_link(bundle.digest),
            "base model": escape(f"{bundle.base_model} at {bundle.base_revision}"),
            "adapter": escape(adapter.digest) if adapter else "none: the base model",
            "dataset": escape(bundle.dataset_version or "none"),
            "system prompt": _cell(bundle.system_prompt),
            "sampling": escape(f"temperature {bundle.temperature:g}, at most {bundle.max_tokens} tokens"),
        }
    rows = [(f"<strong>{name}</strong>", value) for name, value in facts.items()]
    return (
        table(("", ""), rows, "One attempt")
        .replace('<th scope="col"></th>', "")
        .replace("<thead><tr></tr></thead>", "")
    )


def search_form(action: str, fields: dict[str, tuple[str, str]], button: str) -> str:
    """A form that asks by GET: name -> (label, value)."""
    inputs = "".join(
        f'<div><label for="{name}">{escape(label)}</label><input id="{name}" name="{name}" value="{escape(value)}"'
        ' maxlength="200"></div>'
        for name, (label, value) in fields.items()
    )
    return f'<form class="search" method="get" action="{action}">{inputs}<button type="submit">{button}</button></form>'
