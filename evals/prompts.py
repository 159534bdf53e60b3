"""What a suite asks: for whoever must keep it out of the training data."""

from collections.abc import Iterable

from evals.suites import Suite


def prompts_of(suites: Iterable[Suite]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The user's turns of every sample, in their order, by the suite's name and the sample's id.

    Suites over a dataset version's held-out rows ask nothing of their own: they are left out.
    """
    return {
        (suite.config.name, sample.id): tuple(m.content or "" for m in sample.messages if m.role == "user")
        for suite in suites
        if not suite.config.is_held_out
        for sample in suite.samples
    }
