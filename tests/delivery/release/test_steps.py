"""What people read of a release's steps: where it is, with the share that counts there, and each step's title."""

from rollout_world import World

from delivery.release.steps import finished_steps, place_of, step_of


def test_each_stage_says_which_share_of_what_it_has() -> None:
    world, places, titles = World(), [], []
    for index in range(len(world.plan.stages)):
        world.until_stage(index)
        step = step_of(world.plan, world.state)
        assert step is not None
        places.append(place_of(world.plan, world.state))
        titles.append((step.key, step.title))
    assert places == [
        "0-shadow (20 % mirrored)",
        "1-canary (10 % of users)",
        "2-canary (50 % of users)",
        "3-full (90 % of users)",
        "4-watch (10 % held back)",
    ]
    assert titles == [
        ("stage 0-shadow", "shadow 20 %"),
        ("stage 1-canary", "canary 10 %"),
        ("stage 2-canary", "canary 50 %"),
        ("stage 3-full", "full 90 %"),
        ("stage 4-watch", "watch"),
    ]


def test_before_and_after_its_stages_a_release_is_in_a_phase() -> None:
    world = World()
    assert place_of(world.plan, world.state) == "preparing"
    world.until("live")
    assert place_of(world.plan, world.state) == "live"
    assert step_of(world.plan, world.state) is None
    assert [step.title for step, _ in finished_steps(world.plan, world.state)][-2:] == ["full 90 %", "watch"]
