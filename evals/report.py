"""What an evaluation leaves behind: scores per sample, and per suite a mean with its interval."""

from typing import Literal

from pydantic import Field

from configs.strict import Strict

Better = Literal["higher", "lower"]


class SampleScore(Strict):
    """One sample's outcome. `score` is None when the scorer could not judge: that is not zero."""

    id: str
    score: float | None
    reason: str = ""
    output: str = ""
    expected: str | None = None  # the class, where the scorer tells classes
    said: str | None = None  # "" when the reply names none


class SuiteResult(Strict):
    """One suite's outcome for one subject; `samples` make paired comparisons possible."""

    suite: str
    version: str  # digest of the suite's data and scorer
    kind: Literal["behaviour", "capability"]
    measure: str = "mean"  # over judged samples: mean, macro_f1, f1:CLASS
    better: Better = "higher"
    score: float | None  # None when there are no judged samples
    low: float | None  # 95 % interval
    high: float | None
    n: int  # judged samples
    unjudged: int
    samples: tuple[SampleScore, ...]


class EvalReport(Strict):
    """All suites of one subject: the base with its long prompt, production, or a candidate."""

    subject: str
    model: str  # what vLLM called it
    system_prompt: str | None
    prompt_tokens_mean: float | None  # per request, over the behavioural suites
    suites: dict[str, SuiteResult]
    engine: dict[str, str] = Field(default_factory=dict)  # what answered: vLLM's version and settings
