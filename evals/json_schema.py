"""Whether a value is of a JSON Schema, in a bounded number of steps: `jsonschema`'s own rules, each of them counted.

A schema may name itself twice at every level, so that a text of 30 characters takes for ever. Patterns are RE2's.
"""

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any

import jsonschema
import orjson
from referencing import Registry

from configs.patterns import compiled

Keyword = Callable[[Any, Any, Any, Any], Iterator[jsonschema.ValidationError] | None]
_left: ContextVar[list[int]] = ContextVar("steps left")


class TooManyStepsError(Exception):
    """The value could not be judged within the steps that it had."""


def is_of(schema: Mapping[str, Any], value: Any, steps: int) -> bool:
    """Whether the value is of the schema. Raises TooManyStepsError. A step is one rule, applied to one value."""
    _left.set([steps])
    try:
        return bool(_validator(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)).is_valid(value))
    except RecursionError:
        raise TooManyStepsError from None


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> Any:
    parsed = orjson.loads(schema)
    base = jsonschema.validators.validator_for(parsed)
    rules = {name: OWN.get(name, rule) for name, rule in base.VALIDATORS.items()}
    counted = {name: partial(_counted, rule) for name, rule in rules.items()}
    return jsonschema.validators.extend(base, counted)(parsed, registry=Registry())


def _counted(rule: Keyword, validator: Any, value: Any, instance: Any, schema: Any) -> Any:
    left = _left.get()
    left[0] -= 1
    if left[0] < 0:
        raise TooManyStepsError
    return rule(validator, value, instance, schema) or ()


def _pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "string") and compiled(pattern).search(instance) is None:
        yield jsonschema.ValidationError("no match")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _: Any) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, subschema in patterns.items():
            for name, item in instance.items():
                if compiled(pattern).search(name) is not None:
                    yield from validator.descend(item, subschema)


def _additional_properties(
    validator: Any, subschema: Any, instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    named, patterns = schema.get("properties", {}), [compiled(one) for one in schema.get("patternProperties", {})]
    for name, item in instance.items():
        if name not in named and not any(pattern.search(name) for pattern in patterns):
            yield from validator.descend(item, subschema)


def _unique_items(validator: Any, is_wanted: Any, instance: Any, _: Any) -> Iterator[jsonschema.ValidationError]:
    if is_wanted and validator.is_type(instance, "array") and len({_key(item) for item in instance}) < len(instance):
        yield jsonschema.ValidationError("not unique")


def _key(value: Any) -> Any:
    """Equal for what JSON Schema calls equal, and hashable: 1 is 1.0 and not true."""
    if isinstance(value, dict):
        return "object", frozenset((name, _key(item)) for name, item in value.items())
    if isinstance(value, list):
        return "array", tuple(_key(item) for item in value)
    return isinstance(value, bool), value


OWN: dict[str, Keyword] = {  # the others take a time that the value's length bounds
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
