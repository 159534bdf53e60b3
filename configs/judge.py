"""A judge: a model behind an OpenAI-compatible endpoint that says which of two answers to a request is the better one.

Requests and answers of users go to this endpoint, as far as the gateway's redaction rules let them. What it may cost is
bounded per tick and per release. Its key comes from the environment, never from a file.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue, field_validator

from configs.routing import FULL_BP
from configs.strict import Strict

GENERAL = """\
Judge what the answer does for the person who asked, in this order:
1. It is correct: nothing in it is wrong or made up.
2. It does what was asked, in the language and the form that was asked for, and what the person has said before counts.
3. It says no more than helps. Length, politeness and confidence are no merits of their own.
4. It refuses only what should be refused.
If neither is clearly better by these points, it is a tie."""
OURS = frozenset(("model", "messages", "stream", "n"))


def _is_base_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https") or not rest:
        raise ValueError("no base URL -> e.g. http://127.0.0.1:9000/v1")
    if "@" in rest.partition("/")[0]:
        raise ValueError("a URL here must not hold a password -> name its environment variable in api_key_env")
    return url.rstrip("/")


class Judge(Strict):
    """Who judges, by what, and how much at most."""

    base_url: Annotated[str, AfterValidator(_is_base_url)] = Field(
        description="of the OpenAI-compatible API, with its /v1; POST <base_url>/chat/completions is asked"
    )
    model: str = Field(
        min_length=1, description="a capable one of another family: models prefer answers like their own"
    )
    api_key_env: str | None = Field(
        None, pattern=r"^[A-Z][A-Z0-9_]*$", description="the environment variable that holds the key; none: no key"
    )
    rubric: str = Field(GENERAL, min_length=1, max_length=8000, description="what makes an answer better than another")
    share_bp: int = Field(
        FULL_BP, ge=1, le=FULL_BP, description="of the mirrored requests, by a hash of their id: whose texts are kept"
    )
    pairs_per_tick: int = Field(8, ge=1, le=100, description="asked at once at most; each costs two questions")
    pairs_per_release: int = Field(400, ge=1, description="then no more are asked, whatever the check says by then")
    concurrent_questions: int = Field(4, ge=1, le=64)
    timeout_s: float = Field(30.0, gt=0, le=600, description="of one question")
    max_tokens: int = Field(64, ge=1, le=100_000, description="of its reply; a model that thinks first needs more")
    parameters: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="also sent with each question, e.g. response_format; null takes one away, e.g. temperature: null",
    )

    @field_validator("parameters")
    @classmethod
    def _leaves_ours(cls, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(OURS & given.keys()):
            raise ValueError(f"{', '.join(taken)} cannot be set here -> leave it out")
        return given
