"""The table as a picture: false rollbacks beside other rules, and how soon bad candidates are rolled back."""

from pathlib import Path

import numpy as np

from benchmarks.canary.row import TableRow

OURS, OTHERS = "#1f6f5c", "#b9b4a7"


def draw(rows: list[TableRow], path: Path) -> None:
    """Writes the picture; parts without rows stay empty."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _false_rollbacks(left, [row for row in rows if row.what == "rolled back"])
    _curves(right, [row for row in rows if row.curve and "every 20th" in row.case])
    figure.savefig(path, dpi=140)


def _false_rollbacks(axes, rows: list[TableRow]) -> None:  # type: ignore[no-untyped-def]  # matplotlib's are not typed here
    bars = [(row.case, row.measured, OURS) for row in rows]
    if rows:
        bars += [(name, share, OTHERS) for name, share in rows[0].others.items() if not name.startswith("z-test once")]
    names, shares, colours = [list(column) for column in zip(*bars, strict=True)] if bars else ([], [], [])
    axes.barh(names, shares, color=colours)
    axes.invert_yaxis()
    axes.axvline(0.05, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("equal candidates rolled back (grey: other rules; dotted: 5 %)")
    for place, share in enumerate(shares):
        axes.text(max(share, 0.05) + 0.01, place, f"{share:.1%}", va="center", fontsize=8)


def _curves(axes, rows: list[TableRow]) -> None:  # type: ignore[no-untyped-def]  # matplotlib's are not typed here
    for row in rows:
        (line,) = axes.plot(row.curve, np.arange(1, 100) / 100, label=row.case.removesuffix(", every 20th request"))
        axes.plot(float(row.what.split()[-1]), row.target, marker="x", color=line.get_color())
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("requests of the candidate (x: target)")
    axes.set_ylabel("share of bad candidates rolled back")
    if rows:
        axes.legend(fontsize=8, loc="lower right")
