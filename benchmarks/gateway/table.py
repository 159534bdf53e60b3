"""The figures as the README shows them: made from a run's JSON, so that no number is copied by hand."""

from pathlib import Path
from typing import Any

from benchmarks.gateway.plot import SERVERS
from configs.errors import SlipwayError

BEGIN, END = "<!-- figures of benchmarks/gateway -->\n", "<!-- end of figures -->\n"
HEADS = (
    "",
    "requests/s",
    "CPU a request",
    "added alone, p50",
    "p99",
    "added to a token, p99",
    "core per 1,000 tokens/s",
)


def as_markdown(described: dict[str, Any]) -> str:
    """Two tables, servers and targets, and a line that says where and when."""
    figures = described["figures"]
    lines = ["| " + " | ".join(HEADS) + " |", "|---" + "|---:" * (len(HEADS) - 1) + "|"]
    lines += [_row(SERVERS[name], figures[name], figures.get("direct")) for name in SERVERS if name in figures]
    lines += ["", "| target | | measured | |", "|---|---|---:|---|"]
    for target in described["targets"]:
        limit = f"at {'least' if target['at_least'] else 'most'} {target['target']:,g}"
        verdict = "met" if target["met"] else "**missed**"
        lines.append(f"| {target['what']} | {limit} | {_short(target['measured'])} | {verdict} |")
    if soak := figures.get("soak"):
        lines += ["", _soaked(soak)]
    load = described["load_average"][0]
    where = f"{described['machine']}, load average {load:.1f} at the end, commit {described['commit']}"
    lines += ["", f"{where}; peers: {', '.join(described['peers'])}."]
    lines += [f"Not measured: {name} ({why})." for name, why in described["skipped"].items()]
    return "\n".join(lines) + "\n"


def put_into(readme: Path, described: dict[str, Any]) -> None:
    """Replaces what stands between the two marks. Raises SlipwayError if they are not there."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        cure = f"put these two lines where the tables belong: {BEGIN.strip()} and {END.strip()}"
        raise SlipwayError(
            "the marks of the figures are not there, once each and in order", where=str(readme), cure=cure
        )
    before, _, rest = text.partition(BEGIN)
    readme.write_text(before + BEGIN + as_markdown(described) + END + rest.partition(END)[2])


def _row(name: str, mine: dict[str, float], direct: dict[str, float] | None) -> str:
    added = ("alone_p50_ms", "alone_p99_ms", "token_transit_p99_ms")
    cells = [name, f"{mine['requests_per_s']:,.0f}", f"{mine['cpu_us_per_request']:,.0f} µs"]
    cells += [f"{_short(mine[one] - direct[one])} ms" if direct else "" for one in added]
    return "| " + " | ".join([*cells, _short(mine["core_per_1000_tokens_per_s"])]) + " |"


def _soaked(soak: dict[str, float]) -> str:
    return (
        f"Soak: {soak['requests']:,.0f} requests and {soak['tables']:,.0f} tables, each with a new candidate; "
        f"{soak['before_mib']:.0f} MiB before, {soak['after_mib']:.0f} MiB after, {soak['failed']:.0f} failed."
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}" if abs(value) < 1 else f"{value:.1f}"
