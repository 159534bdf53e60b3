"""YAML into typed models, with every problem of every file reported at once."""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from configs.errors import UNSAID, ConfigError, Problem
from configs.yaml_text import read_mapping

M = TypeVar("M", bound=BaseModel)

LISTS = ("tuple_type", "list_type", "set_type", "frozen_set_type")  # pydantic names the Python type that it makes


def load(path: Path, model: type[M]) -> M:
    """One YAML file as a model. Raises ConfigError that lists all of the file's problems."""
    value, problems = check(path, model)
    if value is None:
        raise ConfigError(f"{path} cannot be used", problems=problems)
    return value


def check(path: Path, model: type[M]) -> tuple[M | None, list[Problem]]:
    """The model, or None and all that is wrong with the file."""
    text, problem = read_text(path)
    return (None, [problem]) if problem is not None else check_text(text, path, model)


def check_text(text: str, path: Path, model: type[M]) -> tuple[M | None, list[Problem]]:
    """As `check`, for a file's text that was read, and perhaps filled in, already."""
    data, problem = read_mapping(text, str(path))
    return (None, [problem]) if problem is not None else check_values(data, model, lambda key: _place(path, key))


def check_values(
    values: Mapping[str, Any], model: type[M], where: Callable[[str], str]
) -> tuple[M | None, list[Problem]]:
    """As `check`, for values from wherever. `where` names the place of a key, e.g. "lora.rank"; "" is the whole."""
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        return None, explained(error, model, where)


def explained(
    error: ValidationError, model: type[BaseModel], where: Callable[[str], str] = lambda key: key
) -> list[Problem]:
    """What pydantic found wrong with values for `model`, as people are told it."""
    return [_explain(where, model, item) for item in _causes(error)]


def as_yaml(value: BaseModel) -> str:
    """The text that `check_text` reads as the same model; what is None is left out."""
    return yaml.safe_dump(value.model_dump(mode="json", exclude_none=True), sort_keys=False)


def _place(path: Path, key: str) -> str:
    return f"{path}: {key}" if key else str(path)


def _causes(error: ValidationError) -> list[Any]:
    """The errors that stand for themselves: a list that is too short only because of its bad items is not one."""
    items = error.errors()
    places = [item["loc"] for item in items]
    return [
        item
        for item in items
        if item["type"] != "too_short" or not any(loc[:-1][: len(item["loc"])] == item["loc"] for loc in places)
    ]


def read_text(path: Path) -> tuple[str, Problem | None]:
    """A file's text, or "" and why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8"), None
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f"the folder holds: {', '.join(near)}" if near else f"there is no folder {path.parent}"
        return "", Problem(str(path), "the file does not exist", hint)
    except UnicodeDecodeError as error:
        return "", Problem(str(path), f"not UTF-8 at byte {error.start}", "save the file as UTF-8")
    except OSError as error:
        return "", Problem(str(path), f"cannot be read: {error.strerror}", "name a file that this user may read")


def _explain(place: Callable[[str], str], model: type[BaseModel], item: Any) -> Problem:
    where = place(".".join(str(part) for part in item["loc"]))
    found = repr(item.get("input"))
    found = found if len(found) <= 80 else found[:77] + "..."
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        cure = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return Problem(where, "unknown key", cure)
    if item["type"] == "missing":
        return Problem(where, "required, but missing")
    if item["type"] in LISTS:
        return Problem(
            where, f"a list is needed, found {found}", "write [A, B], or a line for each, with '- ' before it"
        )
    message = item["msg"].removeprefix("Value error, ")
    message, _, cure = message.partition(" -> ")  # validators may name the cure behind an arrow
    return Problem(where, message if item["type"] == UNSAID else f"{message}, found {found}", cure)


def _known_keys(model: type[BaseModel], parents: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at this place knows, found by walking its JSON schema."""
    schema: dict[str, Any] = model.model_json_schema()
    definitions = schema.get("$defs", {})
    candidates = [schema]
    for part in parents:
        following: list[dict[str, Any]] = []
        for node in candidates:
            for option in _options(node, definitions):
                if isinstance(part, int) and "items" in option:
                    following.append(option["items"])
                elif str(part) in option.get("properties", {}):
                    following.append(option["properties"][str(part)])
                elif isinstance(option.get("additionalProperties"), dict):
                    following.append(option["additionalProperties"])
                else:
                    following += option.get("patternProperties", {}).values()
        candidates = following or candidates
    keys = [key for node in candidates for o in _options(node, definitions) for key in o.get("properties", {})]
    return sorted(set(keys))


def _options(node: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _options(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    found = [node]
    for key in ("anyOf", "oneOf", "allOf"):
        for option in node.get(key, ()):
            found += _options(option, definitions)
    return found
