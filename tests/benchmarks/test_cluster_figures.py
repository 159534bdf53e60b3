"""What benchmarks.cluster makes of its samples, and whom it refuses to measure."""

from pathlib import Path

import pytest

from benchmarks.cluster.__main__ import ClusterFigure
from benchmarks.cluster.rounds import RoundError, open_pods
from configs.project import load_project


def test_a_target_is_met_by_the_99th_percentile_and_not_by_the_mean() -> None:
    mostly_fast = [0.1] * 95 + [3.0] * 5
    found = ClusterFigure("from here to there, s", mostly_fast, 2.0).as_dict()
    assert (found["samples"], found["p50"], found["p99"], found["max"]) == (100, 0.1, 3.0, 3.0)
    assert found["met"] is False
    assert ClusterFigure("", [0.1, 0.2], 2.0).as_dict()["met"] is True
    assert ClusterFigure("", [9.0], None).as_dict()["met"] is None


def test_what_is_no_cluster_is_not_measured_as_one(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match=r"target\.kind is local"):
        open_pods(load_project(Path("configs/tutor")), tmp_path)
