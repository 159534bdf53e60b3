"""A check's evidence as a curve: both tests against time, each with the level that suffices."""

import math
from collections.abc import Sequence
from html import escape

from delivery.checks.growth import Point
from delivery.checks.verdicts import CheckResult

WIDTH, HEIGHT = 340, 150
LEFT, RIGHT, TOP, BOTTOM = 38, 62, 12, 22
LOWEST = 1e-3  # smaller evidence is drawn here
HIGHEST = 25.0  # times what suffices; larger evidence is drawn there
GAP = 13  # between two labels, in units of the drawing


def evidence_curve(result: CheckResult, points: Sequence[Point], needed: float, needed_worse: float) -> str:
    """An SVG. The lines differ by dashes and by name, and its label says in words what it shows."""
    most = max(1.0, *(max(one.worse, one.within) for one in points), 1.0)
    top = math.log10(min(max(needed_worse, needed, most), HIGHEST * needed_worse)) + 0.25
    bottom = math.log10(max(LOWEST, min(0.5, *(min(one.worse, one.within) for one in points)) if points else 0.5))
    began, ended = (points[0].at, points[-1].at) if points else (0.0, 1.0)
    span = max(ended - began, 1e-9)

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - began) / span

    def y(value: float) -> float:
        part = (math.log10(max(value, LOWEST)) - bottom) / (top - bottom)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(part, 0.0), 1.0)

    def line(kind: str, values: Sequence[float]) -> str:
        path = " ".join(f"{x(one.at):.1f},{y(value):.1f}" for one, value in zip(points, values, strict=True))
        return f'<polyline class="curve-{kind}" points="{path}"/>'

    levels = sorted({needed, needed_worse})
    heights = _apart(y(levels[0]), y(levels[-1])) if len(levels) > 1 else (y(needed),)
    limits = "".join(
        f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>'
        f'<text class="soft" x="{LEFT - 4}" y="{height + 4:.1f}" text-anchor="end">{level:g}</text>'
        for level, height in zip(levels, heights, strict=True)
    )
    drawn = line("worse", [one.worse for one in points]) + line("within", [one.within for one in points])
    ends = _apart(y(result.e_worse), y(result.e_better))
    names = (
        f'<text x="{WIDTH - RIGHT + 5}" y="{ends[0] + 4:.1f}">worse</text>'
        f'<text x="{WIDTH - RIGHT + 5}" y="{ends[1] + 4:.1f}">within</text>'
    )
    axis = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(1):.1f}" y2="{y(1):.1f}"/>'
    axis += f'<text class="soft" x="{LEFT - 4}" y="{y(1) + 4:.1f}" text-anchor="end">1</text>'
    time = f'<text class="soft" x="{LEFT}" y="{HEIGHT - 5}">{span:.0f} s of evidence</text>' if points else ""
    said = (
        f"{result.check}: evidence that it is worse {number(result.e_worse)}, {needed_worse:g} suffice;"
        f" evidence that it is within its limit {number(result.e_better)}, {needed:g} needed"
    )
    inside = axis + limits + drawn + names + time
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">{inside}</svg>'


def number(value: float) -> str:
    """Short, and readable for large evidence too."""
    return f"{value:.3g}" if value < 1e6 else f"10^{math.log10(value):.0f}"


def _apart(first: float, second: float) -> tuple[float, float]:
    """Two heights that leave room for a line of text each."""
    if abs(first - second) >= GAP:
        return first, second
    middle, sign = (first + second) / 2, 1 if first >= second else -1
    return middle + sign * GAP / 2, middle - sign * GAP / 2
