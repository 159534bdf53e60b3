"""Sessions end by themselves, and nobody guesses passwords for long."""

from hypothesis import given
from hypothesis import strategies as st

from flows.control.sessions import OF_A_NAME, OF_AN_ADDRESS, WINDOW_S, Sessions, Tries


def test_a_session_is_somebodys_until_it_was_idle_for_too_long() -> None:
    sessions = Sessions(idle_s=100)
    key = sessions.begin("anna", 0)
    assert sessions.who(key, 90) == "anna"
    assert sessions.who(key, 180) == "anna"
    assert sessions.who(key, 281) is None


def test_a_page_that_is_only_left_open_does_not_prolong_it() -> None:
    sessions = Sessions(idle_s=100)
    key = sessions.begin("anna", 0)
    assert sessions.who(key, 90, is_use=False) == "anna"
    assert sessions.who(key, 101, is_use=False) is None


def test_two_sessions_are_apart_and_an_ended_one_is_nobodys() -> None:
    sessions = Sessions(idle_s=100)
    first, second = sessions.begin("anna", 0), sessions.begin("anna", 0)
    sessions.end(first)
    sessions.end(first)
    assert (sessions.who(first, 1), sessions.who(second, 1), sessions.who("", 1)) == (None, "anna", None)


def test_after_a_few_wrong_passwords_a_name_waits() -> None:
    tries = Tries()
    for at in range(OF_A_NAME):
        assert tries.wait_s("anna", "10.0.0.1", at) == 0
        tries.failed("anna", "10.0.0.1", at)
    assert tries.wait_s("anna", "10.0.0.2", 10) == WINDOW_S - 10
    assert tries.wait_s("bert", "10.0.0.1", 10) == 0
    assert tries.wait_s("anna", "10.0.0.1", WINDOW_S + OF_A_NAME) == 0


def test_one_address_that_tries_many_names_waits_too() -> None:
    tries = Tries()
    for number in range(OF_AN_ADDRESS):
        tries.failed(f"name{number}", "10.0.0.1", 0)
    assert tries.wait_s("somebody else", "10.0.0.1", 1) > 0
    assert tries.wait_s("somebody else", "10.0.0.2", 1) == 0


def test_whoever_signs_in_is_no_longer_counted_by_name() -> None:
    tries = Tries()
    for at in range(OF_A_NAME):
        tries.failed("anna", "10.0.0.1", at)
    tries.succeeded("anna", "10.0.0.1")
    assert tries.wait_s("anna", "10.0.0.1", 10) == 0


@given(st.lists(st.floats(0, 10_000), max_size=60))
def test_at_no_time_more_than_the_limit_is_tried_within_a_window(times: list[float]) -> None:
    tries, let_in = Tries(), []
    for at in sorted(times):
        if tries.wait_s("anna", "10.0.0.1", at) <= 0:
            tries.failed("anna", "10.0.0.1", at)
            let_in.append(at)
    assert all(late - early >= WINDOW_S for early, late in zip(let_in, let_in[OF_A_NAME:], strict=False))
