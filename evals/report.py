"""What an evaluation leaves behind: scores per sample, and per suite a mean with its interval."""

from typing import Literal

from configs.strict import Strict


class SampleScore(Strict):
    """One sample's outcome. `score` is None when the scorer could not judge: that is not zero."""

    id: str
    score: float | None
    reason: str = ""
    output: str = ""


class SuiteResult(Strict):
    """One suite's outcome for one subject; `samples` make paired comparisons possible."""

    suite: str
    version: str  # digest of the suite's data and scorer
    kind: Literal["behaviour", "capability"]
    score: float | None  # mean over judged samples; None when there are none
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
