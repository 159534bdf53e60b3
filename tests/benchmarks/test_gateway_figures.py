"""The benchmark of the gateway runs, and judges what it measured."""

import json
import os
from pathlib import Path

import pytest

from benchmarks.gateway.__main__ import judged, main
from benchmarks.gateway.load import quantile

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


def test_quantiles_are_values_that_occurred() -> None:
    assert [quantile([3.0, 1.0, 2.0], q) for q in (0.0, 0.5, 0.99)] == [1.0, 2.0, 3.0]


@pytest.mark.live
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the benchmark needs two cores")
def test_a_short_run_measures_both_and_loses_no_request(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        main(["--json", str(tmp_path / "figures.json"), "--seconds", "0.5", "--only", "direct", "ours"])
    finally:
        os.sched_setaffinity(0, allowed)
    written = json.loads((tmp_path / "figures.json").read_text())
    assert set(written["figures"]) == {"direct", "ours"}
    for figures in written["figures"].values():
        assert figures["requests_per_s"] > 1
        assert figures["tokens_per_s"] > 1
        assert (figures["failed"], figures["streams_failed"]) == (0, 0)
    assert written["skipped"] == {}
