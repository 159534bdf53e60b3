"""The TrainJob that `slipway pool trainjob` prints. The page's example is held against Trainer's schema elsewhere."""

import re
from pathlib import Path

import pytest
import yaml
from places import ROOT
from pools import docker_pool, kubernetes_pool

from configs.errors import ConfigError
from configs.loading import check_text
from configs.pool import Pool
from flows.pools.train_job import train_job

PAGE = ROOT / "docs" / "training-on-a-cluster.md"


def test_the_example_is_what_is_printed_for_the_pool_of_the_page() -> None:
    found = re.search(r"^# pool\.yaml\n.*?(?=^```)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    pool, problems = check_text(found[0], Path("pool.yaml"), Pool)
    assert pool is not None, problems
    example = yaml.safe_load((ROOT / "docs" / "examples" / "trainjob.yaml").read_text())
    assert train_job(pool, "torch-distributed", ["slipway/AWS_SECRET_ACCESS_KEY"]) == example


@pytest.mark.parametrize("key", ["other/AWS_SECRET_ACCESS_KEY", "slipway", "slipway/", "/KEY"])
def test_a_key_of_no_secret_of_the_pool_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="is no key of a Secret of this pool"):
        train_job(kubernetes_pool(), "torch-distributed", [key])


def test_what_a_train_job_cannot_say_is_refused() -> None:
    with pytest.raises(ConfigError, match="runs on Kubernetes"):
        train_job(docker_pool(), "torch-distributed", [])
    with pytest.raises(ConfigError, match="cannot name a runtime class"):
        train_job(kubernetes_pool(runtime_class="nvidia"), "torch-distributed", [])
