from delivery.progress import Repetition


def test_a_new_step_is_told_at_once_and_the_same_again_but_for_its_numbers_only_after_a_while() -> None:
    said = Repetition(every_s=10.0)
    steps = [(0.0, "loading (0 s)"), (0.1, "loading (0 s)"), (5.0, "loading (5 s)"), (5.1, "serving (5 s)")]
    assert [said.is_due(text, now) for now, text in steps] == [True, False, False, True]
    assert [said.is_due("serving (9 s)", now) for now in (15.0, 15.1, 15.2, 25.1)] == [False, True, False, True]
