"""JSON Schemas in settings: what of them can be checked in bounded time, found when the file is read.

Nothing is fetched: a `$ref` points into its own schema. Patterns are RE2's. `unevaluated...` and dynamic references are
refused: to follow them takes a time that grows with every level of nesting.
"""

from collections.abc import Iterator
from typing import Any

import jsonschema
import orjson
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from configs.patterns import compiled

MOST_BYTES = 64 * 1024
REFUSED = frozenset(("unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"))


def check_schema(schema: dict[str, Any]) -> None:
    """Raises ValueError if this is no JSON Schema, or none that can be checked in bounded time."""
    try:
        size = len(orjson.dumps(schema))
        if size > MOST_BYTES:
            raise ValueError(f"it has {size} bytes, at most {MOST_BYTES} are taken -> leave out descriptions")
        jsonschema.validators.validator_for(schema).check_schema(schema)
        for part in _objects(schema):
            _check_part(part, schema)
    except jsonschema.SchemaError as error:
        place = ".".join(map(str, error.absolute_path)) or "its root"
        raise ValueError(f"not a JSON Schema, at {place}: {error.message}") from None
    except (
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:  # not all are caught there
        raise ValueError(f"not a JSON Schema: {error}") from None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object within, itself among them."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _check_part(part: dict[str, Any], schema: dict[str, Any]) -> None:
    if taken := REFUSED & part.keys():
        raise ValueError(
            f"{min(taken)} cannot be checked in bounded time -> write it with additionalProperties or items"
        )
    if isinstance(pattern := part.get("pattern"), str):
        compiled(pattern)
    if isinstance(patterns := part.get("patternProperties"), dict):
        for pattern in patterns:
            compiled(pattern)
    reference = part.get("$ref")
    if isinstance(reference, str):
        _check_reference(reference, schema)


def _check_reference(reference: str, schema: dict[str, Any]) -> None:
    if not reference.startswith("#"):
        raise ValueError(f"$ref {reference!r} leads out of the schema, and nothing is fetched -> put it into $defs")
    try:
        resource = Resource.from_contents(schema, default_specification=DRAFT202012)
        Registry().resolver_with_root(resource).lookup(reference)
    except (Unresolvable, ValueError, KeyError) as error:
        raise ValueError(f"$ref {reference!r} leads nowhere: {error}") from None
