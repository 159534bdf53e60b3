"""What pool.yaml may say of the pods or containers that build."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pools import IMAGE, PODS, kubernetes_pool
from pydantic import ValidationError

from configs.loading import check
from configs.pool import Pool

WHOLE = {"image": IMAGE, "project": "/models/tutor"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, "a pool is of one kind"),
        ({"kubernetes": PODS, "docker": {}}, "a pool is of one kind"),
        ({"kubernetes": PODS, "image": "slipway-pipeline:1.0"}, "can be another image tomorrow"),
        ({"kubernetes": PODS, "project": "tutor"}, "from its root on"),
        ({"kubernetes": PODS, "home": "/work/../etc"}, "from its root on"),
        ({"kubernetes": PODS, "home": "/models/state"}, "read-only"),
        ({"docker": {}, "home": "/state"}, "nobody may write to /state"),
        ({"docker": {"volumes": ["models:/tmp"]}}, "/tmp is another volume's place, or the image's own"),
        ({"docker": {"volumes": ["models"]}}, "should match pattern"),
        ({"kubernetes": PODS, "env": {"AWS_SECRET_ACCESS_KEY": "x"}}, "would be shown by Prefect"),
        ({"kubernetes": PODS, "env": {"DATABASE": "postgresql://me:word@db/slipway"}}, "would be shown by Prefect"),
        ({"kubernetes": {**PODS, "mounts": [{"path": "/models"}]}}, "say claim or host_path"),
        ({"kubernetes": {**PODS, "mounts": 2 * PODS["mounts"]}}, "/models is another volume's place"),
        ({"kubernetes": {**PODS, "gpus": -1}}, "greater than or equal to 0"),
        ({"kubernetes": {**PODS, "gpu": 1}}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(said: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Pool.model_validate({**WHOLE, **said})


def test_a_tag_is_believed_where_nodes_have_their_images_already() -> None:
    pool = {**WHOLE, "image": "slipway-pipeline:0.1.0", "kubernetes": {**PODS, "pull_policy": "Never"}}
    assert Pool.model_validate(pool).image == "slipway-pipeline:0.1.0"


def test_all_that_is_wrong_with_a_file_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    pods = {**PODS, "gpus": "many", "memory": "lots", "mounts": [{"path": "models", "claim": "models"}]}
    file.write_text(yaml.safe_dump({"project": "tutor", "kubernetes": pods}))
    pool, problems = check(file, Pool)
    assert pool is None
    keys = ("image", "project", "kubernetes.gpus", "kubernetes.memory", "kubernetes.mounts.0.path")
    assert {problem.where.removeprefix(f"{file}: ") for problem in problems} == set(keys)


def test_a_secret_that_was_written_here_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump({**WHOLE, "kubernetes": PODS, "env": {"A_TOKEN": "hush"}}))
    _, (problem,) = check(tmp_path / "pool.yaml", Pool)
    assert "A_TOKEN would be shown by Prefect" in problem.what
    assert "hush" not in str(problem)


def test_a_path_is_kept_where_a_volume_that_may_be_written_lies_above_it() -> None:
    pool = kubernetes_pool(mounts=[{"claim": "all", "path": "/all"}, {"claim": "m", "path": "/m", "read_only": True}])
    kept = [path for path in ("/all", "/all/state", "/allowed", "/m/state", "/work") if pool.keeps(Path(path))]
    assert kept == ["/all", "/all/state"]
