"""The table of stage kinds says everything that the rest asks of a kind, so its rows have to fit together."""

from typing import get_args

from configs.stage_kinds import BY_NAME, STAGE_KINDS, KindName


def test_every_name_that_a_plan_may_write_has_one_row_in_the_order_of_a_release() -> None:
    assert tuple(kind.name for kind in STAGE_KINDS) == get_args(KindName)
    assert len(BY_NAME) == len(STAGE_KINDS)


def test_users_come_after_copies_and_everybody_after_the_one_last_share() -> None:
    served = [kind.serves for kind in STAGE_KINDS]
    assert served == sorted(served, key=["nobody", "a share", "everybody"].index)
    [last] = [kind for kind in STAGE_KINDS if kind.is_last_share]
    assert (last.serves, last.needed) == ("a share", "one")
    assert not any(kind.assigns_users for kind in STAGE_KINDS[STAGE_KINDS.index(last) + 1 :])


def test_answers_that_nobody_sees_are_compared_in_pairs_and_commit_nothing() -> None:
    for kind in STAGE_KINDS:
        assert kind.has_pairs == (kind.role == "mirror")
        assert not (kind.has_pairs and kind.commits)
