"""`json`: the reply is JSON of a schema, and its fields are the expected ones."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import Field, JsonValue

from configs.contract import Contract, Json
from configs.strict import Strict
from evals.contract import judge as judged
from evals.samples import Reply, Sample
from evals.scorers.score import Score, shown, unless


class JsonFieldsScorer(Strict):
    """1 when the last reply is JSON of the schema and each field that counts equals the one of `expected`."""

    name: Literal["json"]
    json_schema: dict[str, JsonValue] = Field(default_factory=dict, description="{}: any JSON")
    fields: tuple[str, ...] | None = Field(
        None, description="the fields that must be equal, `a.b` for one inside another; by default all of `expected`"
    )
    partly: bool = Field(False, description="the share of equal fields instead of all or nothing")

    def model_post_init(self, context: Any) -> None:
        """Raises ValidationError for what is no schema, as a contract's detector does."""
        Json(kind="json", json_schema=self.json_schema)

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """Without `expected` the schema alone is asked; `expected` may be JSON, or a text that is JSON."""
        text = replies[-1].text or ""
        try:
            said = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return unless(f"not JSON: {error}")
        if self.json_schema and not self._fits(text):
            return unless("JSON, but not of the schema")
        if sample.expected is None and self.fields is None:
            return Score(1.0)
        wanted = _parsed(sample.expected)
        if self.fields is None and not isinstance(wanted, dict):
            return unless("" if same(said, wanted) else f"expected {shown(wanted)}")
        return self._compare(said, wanted)

    def _fits(self, text: str) -> bool:
        detector = Json(kind="json", json_schema=self.json_schema)
        return judged(Contract(detectors={"json": detector}), text).verdicts == {"json": False}

    def _compare(self, said: JsonValue, wanted: JsonValue) -> Score:
        names = self.fields if self.fields is not None else tuple(wanted) if isinstance(wanted, dict) else ()
        at = _at if self.fields is not None else _own
        expected = {name: at(wanted, name) for name in names}
        if lacking := [name for name, value in expected.items() if value is _NOTHING]:
            return Score(None, f"the sample's `expected` has no field {lacking[0]!r}")
        wrong = [name for name, value in expected.items() if not same(at(said, name), value)]
        share = 1 - len(wrong) / len(names) if names else 1.0
        if not wrong:
            return Score(1.0)
        found = at(said, wrong[0])
        what = "is missing" if found is _NOTHING else f"is {shown(found)}"
        return Score(share if self.partly else 0.0, f"{wrong[0]} {what}, expected {shown(expected[wrong[0]])}")


_NOTHING: Any = object()


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, and true equals no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return (type(one) is type(other) and one == other) or (_are_numbers(one, other) and one == other)


def _are_numbers(one: Any, other: Any) -> bool:
    return isinstance(one, int | float) and isinstance(other, int | float)


def _parsed(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        try:
            return orjson.loads(value)  # type: ignore[no-any-return]
        except orjson.JSONDecodeError:
            return value
    return value


def _own(value: Any, name: str) -> Any:
    return value.get(name, _NOTHING) if isinstance(value, Mapping) else _NOTHING


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = _own(value, name)
    return value
