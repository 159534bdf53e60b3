"""The figures as a picture: four panels, a bar for each server, all on logarithmic scales."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import SlipwayError

Figures = dict[str, dict[str, float]]  # server -> name of the figure -> its value

OURS, OTHERS = "#1f6f5c", "#b9b4a7"
LIGHTER = 0.55  # opacity of the second of two bars
SERVERS = {"ours": "slipway", "ours-plain": "slipway, bare", "vllm-router": "vllm-router", "litellm": "LiteLLM"}
SERVERS |= {"nginx": "nginx"}
NUMBERS: dict[str, Any] = {"fontsize": 9, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5}}
LEAST_MS = 1e-3  # what is added may be nothing, or less than the noise: a logarithm needs more


@dataclass(frozen=True)
class Panel:
    """One part of the picture. `bars`: a word beside the number, and the figure. `minus_direct`: what is added."""

    title: str
    bars: tuple[tuple[str, str], ...]
    target: float | None
    minus_direct: bool = False


PANELS = (
    Panel("requests per second on one core", (("", "requests_per_s"),), 2500.0),
    Panel("CPU per request, microseconds", (("", "cpu_us_per_request"),), None),
    Panel("ms added to a request alone", (("p50", "alone_p50_ms"), ("p99", "alone_p99_ms")), None, True),
    Panel("ms added to a token, 256 streams, p99", (("", "token_transit_p99_ms"),), 2.0, True),
)


def measured(figures: Figures, panel: Panel, figure: str) -> list[tuple[str, float]]:
    """A panel's (server, value), in the order of SERVERS; servers that did not run are left out."""
    base = figures["direct"][figure] if panel.minus_direct else 0.0
    return [(name, figures[name][figure] - base) for name in SERVERS if name in figures]


def draw(described: dict[str, Any], path: Path) -> None:
    """Writes the picture of a run's JSON; the suffix says which kind. What is added needs `direct` to have run.

    Raises SlipwayError if no server was measured.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figures: Figures = described["figures"]
    if not any(name in figures for name in SERVERS):
        raise SlipwayError(
            "nothing to draw: no server was measured",
            where=str(path),
            cure=f"run it with --only direct {' '.join(SERVERS)}",
        )
    panels = [panel for panel in PANELS if "direct" in figures or not panel.minus_direct]
    figure = Figure(figsize=(10, 3.1 * ((len(panels) + 1) // 2)), layout="constrained")
    for axes, panel in zip(figure.subplots(len(panels) // 2, 2).flat, panels, strict=True):
        _bars(axes, panel, figures)
    with matplotlib.rc_context({"svg.hashsalt": "slipway"}):  # the same figures are the same file
        figure.savefig(path, dpi=140, metadata={"Date": None} if path.suffix == ".svg" else None)


def _bars(axes, panel: Panel, figures: Figures) -> None:  # type: ignore[no-untyped-def]  # matplotlib's are not typed here
    height = 0.8 / len(panel.bars)
    names: Sequence[str] = ()
    for number, (label, figure) in enumerate(panel.bars):
        found = measured(figures, panel, figure)
        names = [name for name, _ in found]
        places = [place + (number - (len(panel.bars) - 1) / 2) * height for place in range(len(found))]
        values = [max(value, LEAST_MS) for _, value in found]
        colours = [OURS if name.startswith("ours") else OTHERS for name in names]
        axes.barh(places, values, height * 0.92, color=colours, alpha=LIGHTER if number else 1.0)
        for place, (_, value) in zip(places, found, strict=True):
            words = f"{value:,.{_decimals(value)}f}" + (f" ({label})" if label else "")
            axes.annotate(
                words, (max(value, LEAST_MS), place), (4, 0), textcoords="offset points", va="center", **NUMBERS
            )
    axes.set_yticks(range(len(names)), [SERVERS[name] for name in names], fontsize=10)
    axes.invert_yaxis()
    axes.set_xscale("log")
    shown = [patch.get_width() for patch in axes.patches]
    low, high = 10 ** math.floor(math.log10(min(shown) / 1.5)), max(shown)
    axes.set_xlim(low, high * (high / low) ** 0.25)  # room for the numbers
    axes.set_title(panel.title + (" (dotted: target)" if panel.target else ""), fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if panel.target is not None:
        axes.axvline(panel.target, color="black", linewidth=0.9, linestyle=":")


def _decimals(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2
