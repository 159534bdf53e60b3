"""The chart on a real Kubernetes without a controller: what its values say is what users get, and back."""

from collections.abc import Iterator
from typing import Any

import pytest
from chart_world import ChartWorld, chart_world
from helm import HelmError

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChartWorld]:
    with chart_world(tmp_path_factory.mktemp("chart")) as found:
        yield found


def route(world: ChartWorld, **said: Any) -> dict[str, Any]:
    """The values with something else about the route."""
    return world.values | {"routes": {"tutor": world.values["routes"]["tutor"] | said}}


def test_what_the_values_say_is_what_users_get_and_a_wrong_value_changes_nothing(world: ChartWorld) -> None:
    assert world.served() == {"base-1": 40}
    world.sync(route(world, candidate={"variant": "tutor-1", "mode": "canary", "share_percent": 50}))
    found = world.served(100)
    assert set(found) == {"base-1", "tutor-1"}
    assert 25 < found["tutor-1"] < 75
    with pytest.raises(HelmError, match="share_percent"):
        world.sync(route(world, candidate={"variant": "tutor-1", "mode": "canary", "share_percent": "half"}))
    assert set(world.served(100)) == {"base-1", "tutor-1"}
    assert world.failed == []
