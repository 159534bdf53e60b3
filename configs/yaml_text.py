"""YAML text as plain values: whatever the text is, it becomes a mapping or one problem with its line and its cure."""

from typing import Any

import yaml

from configs.errors import Problem

QUOTE = "put text in quotes that holds ': ' or ' #', or starts with one of { [ & * ! % @ ` -"
SHOWN_CHARS = 40
_UNREADABLE = (ValueError, LookupError, AttributeError, ArithmeticError, TypeError)  # what PyYAML lets through


def read_mapping(text: str, where: str) -> tuple[dict[Any, Any], Problem | None]:
    """The text's one mapping, or an empty one and what is wrong with it. `where` names the text, e.g. its file."""
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506  it is a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}: line {mark.line + 1}, column {mark.column + 1}" if mark else where
        what, _, cure = str(getattr(error, "problem", None) or error).partition(" -> ")
        return {}, Problem(place, f"not valid YAML: {what}", cure or QUOTE)
    except RecursionError:
        return {}, Problem(where, "not valid YAML: nested too deeply", "look for stray brackets: no setting is deep")
    if not isinstance(data, dict):
        found = {type(None): "nothing", list: "a list"}.get(type(data), _cut(repr(data)))
        return {}, Problem(where, f"expected a mapping (key: value), found {found}", "write settings as `key: value`")
    return data, None


class _Loader(yaml.SafeLoader):
    """YAML's safe loader; what it would lose silently, or fails at with an error of Python's, names its line."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """As yaml's, at once to the bottom, so that a list or mapping that holds itself is refused."""
        try:
            value = super().construct_object(node, deep=True)
            if isinstance(node, yaml.ScalarNode):
                _writable(value)
            return value
        except _UNREADABLE as error:
            what = f"{_cut(str(node.value))!r} cannot be read as {node.tag.rpartition(':')[2]} ({error})"
            raise _refusal(f"{what} -> if it is meant as text, put it in quotes", node) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As yaml's; raises ConstructorError at the second of two equal keys, and at a key that is no plain value."""
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                cure = "is {{ ... }} a template that nobody filled in? Put text in quotes that starts with a bracket"
                raise _refusal(f"a list or a mapping cannot be a key -> {cure}", key)
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise _refusal(f"{_cut(key.value)!r} is given twice -> keep one of them", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _writable(value: Any) -> None:
    """ValueError for what can be neither shown nor kept: half a surrogate pair, NUL, an endless number."""
    if "\0" in str(value).encode().decode():
        raise ValueError("it holds the character NUL")


def _refusal(message: str, node: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."
