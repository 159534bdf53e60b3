"""What `slipway check` prints: what would become of the rows, what the model would see, what plan and gate can show."""

from flows.cli.plan import render as render_plan
from tasks.projects.check import Expected

TRAINED, END = "\033[32;1m", "\033[0m"
PERCENTILES = (50, 90, 99)
SHOWN_WHAT = 200  # what happened, and its cure behind it


def render(found: Expected, colours: bool) -> str:
    """For people; the tokens that carry the loss are green, or stand between >> and <<."""
    lines = [
        *_rows(found),
        "",
        *_examples(found, colours),
        "",
        *_sizes(found),
        "",
        *_gate(found),
        "",
        render_plan(found.outlook),
    ]
    if found.warnings:
        lines += ["", *(f"warning: {text}" for text in found.warnings)]
    return "\n".join(lines)


def _rows(found: Expected) -> list[str]:
    report = found.look.report
    whole = "" if found.look.whole else " (there are more; these are the first)"
    lines = [f"rows{whole}: {report.read} read, {report.kept} kept, about {found.held_out} of them held out"]
    lines += [f"  read as {one.reader}: {one.name}" for one in found.look.sources]
    for name in ("rejected", "changed", "noticed"):
        for kind, one in getattr(report, name).items():
            lines.append(f"  {name}: {kind} {one.rows}")
            lines += [f"      row {row.row} of {row.source}: {row.what[:SHOWN_WHAT]}" for row in one.examples[:1]]
    if report.fields:
        lines.append(f"  kept beside the rows, not trained on: {', '.join(report.fields)}")
    return lines


def _examples(found: Expected, colours: bool) -> list[str]:
    before, after = (TRAINED, END) if colours else (">>", "<<")
    lines = [f"as the model sees them; what it learns to say is {'green' if colours else 'between >> and <<'}"]
    for row in found.rows:
        text = "".join(f"{before}{part}{after}" if learned else part for part, learned in row.parts)
        lines += [f"  {row.id}", *(f"    {line}" for line in text.split("\n"))]
    return lines


def _sizes(found: Expected) -> list[str]:
    tokens, time = sorted(found.tokens), found.training
    at = ", ".join(
        f"{share} % within {tokens[min(len(tokens) - 1, len(tokens) * share // 100)]}" for share in PERCENTILES
    )
    cost = "" if found.cost is None else f", {found.cost:.2f} {found.currency}"
    lines = [
        f"tokens a row: {at}, the longest {tokens[-1]}; {sum(tokens):,} in all",
        f"training: about {_duration(time.seconds)}, {found.memory.render()}{cost}",
        f"  that is {time.tokens:,} tokens ({time.passes:g} x {time.rows} rows) at {time.tokens_per_s:,.0f} tokens/s, "
        f"{time.source}",
    ]
    lines += [f"suite {name}: {count} samples" for name, count in found.samples.items()]
    lines.append(f"overlap with the suites: {found.overlap}")
    return lines


def _gate(found: Expected) -> list[str]:
    return ["what the gate can show with so many samples", *(f"  {one.sentence}" for one in found.gate)]


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
