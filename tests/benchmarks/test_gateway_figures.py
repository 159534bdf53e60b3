"""The benchmark of the gateway runs, and judges what it measured."""

import json
import os
from pathlib import Path

import pytest
from places import ROOT

import benchmarks.gateway
from benchmarks.gateway.__main__ import combined, judged, main
from benchmarks.gateway.load import quantile
from benchmarks.gateway.plot import PANELS, draw, measured
from benchmarks.gateway.soak import grown
from benchmarks.gateway.table import BEGIN, END, as_markdown, put_into
from configs.errors import SlipwayError

FIGURES = {
    "requests_per_s": 3000.0,
    "core_per_1000_tokens_per_s": 0.1,
    "alone_p50_ms": 0.9,
    "alone_p99_ms": 2.0,
    "token_transit_p99_ms": 1.0,
}


def test_only_what_was_measured_is_judged_and_each_target_by_its_own_direction() -> None:
    assert judged({}) == []
    direct = FIGURES | {"alone_p50_ms": 0.1, "alone_p99_ms": 0.2, "token_transit_p99_ms": 0.5}
    verdicts = judged({"ours": FIGURES, "direct": direct, "vllm-router": FIGURES | {"requests_per_s": 6100.0}})
    assert [verdict["what"] for verdict in verdicts if not verdict["met"]] == [
        "times the requests per second of vllm-router"
    ]
    assert {verdict["what"] for verdict in verdicts if "litellm" in verdict["what"]} == set()


def test_a_soak_is_judged_by_its_growth_and_by_its_failures() -> None:
    verdicts = judged({"soak": {"grown_mib": 11.0, "failed": 0.0}}) + judged(
        {"soak": {"grown_mib": 9.0, "failed": 1.0}}
    )
    assert [verdict["met"] for verdict in verdicts] == [False, True, True, False]


def test_of_several_rounds_the_median_counts_and_every_failure() -> None:
    rounds = [{"requests_per_s": per_s, "failed": failed} for per_s, failed in ((9.0, 1.0), (1.0, 0.0), (8.0, 2.0))]
    assert combined(rounds) == {"requests_per_s": 8.0, "failed": 3.0}


def test_quantiles_are_values_that_occurred() -> None:
    assert [quantile([3.0, 1.0, 2.0], q) for q in (0.0, 0.5, 0.99)] == [1.0, 2.0, 3.0]


PUBLISHED = Path(benchmarks.gateway.__file__).with_name("figures.json")


def test_memory_that_goes_up_and_down_has_not_grown_and_a_leak_has() -> None:
    assert grown([200.0, 210.0] * 10) == 0.0
    assert grown([200.0 + turn for turn in range(20)]) == pytest.approx(16.0)


def test_what_a_server_adds_is_its_time_without_the_stubs_own() -> None:
    alone = next(panel for panel in PANELS if "alone" in panel.title)
    figures = {"direct": {"alone_p50_ms": 0.25}, "litellm": {"alone_p50_ms": 9.0}, "ours": {"alone_p50_ms": 0.75}}
    assert measured(figures, alone, "alone_p50_ms") == [("ours", 0.5), ("litellm", 8.75)]


def test_the_same_figures_are_drawn_as_the_same_picture_with_every_server_in_it(tmp_path: Path) -> None:
    described = json.loads(PUBLISHED.read_text())
    for name in ("first.svg", "second.svg"):
        draw(described, tmp_path / name)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
    some = described | {"figures": {name: described["figures"][name] for name in ("ours", "litellm")}}
    draw(some, tmp_path / "without-direct.svg")
    drawn = {name: (tmp_path / f"{name}.svg").read_text() for name in ("first", "without-direct")}
    assert [text.count('<g id="axes_') for text in drawn.values()] == [4, 2]


def test_nothing_is_drawn_of_a_run_that_measured_no_server(tmp_path: Path) -> None:
    with pytest.raises(SlipwayError, match="no server was measured"):
        draw({"figures": {"soak": {"grown_mib": 1.0}}}, tmp_path / "figures.svg")


def test_the_gateways_readme_shows_the_published_figures() -> None:
    readme = (ROOT / "docs" / "gateway.md").read_text()
    shown = readme.partition(BEGIN)[2].partition(END)[0]
    assert shown == as_markdown(json.loads(PUBLISHED.read_text()))


def test_the_tables_replace_what_stood_between_the_marks_and_nothing_else(tmp_path: Path) -> None:
    described = json.loads(PUBLISHED.read_text())
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}old figures\n{END}after\n")
    put_into(page, described)
    assert page.read_text() == f"before\n{BEGIN}{as_markdown(described)}{END}after\n"
    page.write_text(f"{END}{BEGIN}")
    with pytest.raises(SlipwayError, match="marks"):
        put_into(page, described)


def test_an_earlier_run_is_drawn_again_without_measuring_anything(tmp_path: Path) -> None:
    described = json.loads(PUBLISHED.read_text())
    status = main(["--from", str(PUBLISHED), "--plot", str(tmp_path / "figures.png")])
    assert status == (0 if all(target["met"] for target in described["targets"]) else 1)
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_that_holds_no_figures_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--from", str(tmp_path / "nowhere.json"), "--plot", str(tmp_path / "figures.svg")]) == 2
    assert "nowhere.json" in capsys.readouterr().err


@pytest.mark.live
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the benchmark needs two cores")
def test_a_short_run_measures_both_and_loses_no_request(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        main(
            ["--json", str(tmp_path / "figures.json"), "--seconds", "0.5", "--rounds", "1", "--only", "direct", "ours"]
        )
    finally:
        os.sched_setaffinity(0, allowed)
    written = json.loads((tmp_path / "figures.json").read_text())
    assert set(written["figures"]) == {"direct", "ours"}
    for figures in written["figures"].values():
        assert figures["requests_per_s"] > 1
        assert figures["tokens_per_s"] > 1
        assert (figures["failed"], figures["streams_failed"]) == (0, 0)
    assert written["skipped"] == {}
