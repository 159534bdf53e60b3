"""From a suite's scores to its results: one, or for a suite of classes one a measure, each of which can be gated."""

from collections.abc import Sequence

from evals.classes import class_names
from evals.report import SampleScore, SuiteResult
from evals.scorers.choice import ChoiceScorer
from evals.suites import Suite, SuiteConfig
from evals.summaries import summarise


def results_of(suite: Suite, scores: Sequence[SampleScore]) -> dict[str, SuiteResult]:
    """By the name that reports and gates use.

    The suite's own name is the mean; for classes that is the accuracy. `SUITE/macro_f1`, and for each class
    `SUITE/f1:CLASS` and `SUITE/recall:CLASS`, come beside it. Recall is a mean over the class's own samples.
    """
    name = suite.config.name
    found = {name: summarise(name, suite.version, "behaviour", scores)}
    if not isinstance(suite.scorer, ChoiceScorer):
        return found
    lean = [score.model_copy(update={"output": "", "reason": ""}) for score in scores]  # the first one has them
    for measure in ("macro_f1", *(f"f1:{label}" for label in class_names(scores))):
        found[f"{name}/{measure}"] = _summary(suite, measure, lean, measure)
    for label in class_names(scores):
        own = [score for score in lean if score.expected == label]
        found[f"{name}/recall:{label}"] = _summary(suite, f"recall:{label}", own, "mean")
    return found


def measures_of(config: SuiteConfig) -> tuple[str, ...]:
    """The names that a suite's results can have, known before anything was asked."""
    scorer, name = config.scorer, config.name
    labels = scorer.labels if isinstance(scorer, ChoiceScorer) else ()
    kinds = ("macro_f1", *(f"{kind}:{label}" for label in labels for kind in ("f1", "recall"))) if labels else ()
    return (name, *(f"{name}/{kind}" for kind in kinds))


def _summary(suite: Suite, what: str, scores: Sequence[SampleScore], measure: str) -> SuiteResult:
    return summarise(f"{suite.config.name}/{what}", suite.version, "behaviour", scores, measure)
