"""`function`: a team's own scorer, by file and name, for what no other kind can say.

    def score(sample, replies, **parameters): ...

It is given `sample.messages`, `sample.expected`, `sample.fields` and for each reply `.text` and `.cut`. It gives back a
number from 0 to 1, True or False, None (could not judge), or a pair of one of these and the reason. The file runs with
the rights of the build, as all code of a project does; what it imports must be installed.
"""

import importlib.util
import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue

from configs.canonical import digest_bytes, short
from configs.strict import Strict
from evals.samples import Reply, Sample
from evals.scorers.score import Score, shown


class FunctionScorer(Strict):
    """What the function says of the sample and all replies."""

    name: Literal["function"]
    file: Path = Field(description="a Python file, relative to the suite's folder")
    function: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    parameters: dict[str, JsonValue] = Field(default_factory=dict, description="passed to it by name")

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """What it raises, and what is no score, is no zero."""
        try:
            said = load(self.file, self.function)(sample, replies, **self.parameters)
        except Exception as error:  # noqa: BLE001 - a team's own code; the sample is reported as unjudged
            return Score(None, f"{self.function} raised {type(error).__name__}: {error}")
        return _score(said, self.function)

    def at(self, folder: Path) -> Self:
        """The same with the file's place filled in. Raises ValueError where the function cannot be called."""
        placed = self.model_copy(update={"file": folder / self.file})
        function = load(placed.file, self.function)
        try:
            inspect.signature(function).bind(None, (), **self.parameters)
        except TypeError as error:
            cure = f"it must take a sample, its replies and {', '.join(self.parameters) or 'no parameters'}"
            raise ValueError(f"{self.function} of {self.file} cannot be called: {error} -> {cure}") from None
        return placed


def load(file: Path, name: str) -> Callable[..., Any]:
    """The function of a file. Raises ValueError with the cure."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror} -> name a file relative to eval.yaml") from None
    found = getattr(_module(file.resolve(), digest_bytes(data)), name, None)
    if not callable(found):
        raise ValueError(f"{file} has no function {name!r} -> define it there")
    return found  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _module(file: Path, digest: str) -> Any:
    """`digest` is part of the key alone: a file that was edited is read anew."""
    spec = importlib.util.spec_from_file_location(f"slipway_scorer_{short(digest)}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is no Python file -> name one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        cure = "a scorer's file imports only what is installed, and runs by itself"
        raise ValueError(f"{file} cannot be imported: {type(error).__name__}: {error} -> {cure}") from error
    return module


def _score(said: Any, name: str) -> Score:
    score, reason = said if isinstance(said, tuple) and len(said) == 2 else (said, "")
    if score is None:
        return Score(None, str(reason) or f"{name} could not judge")
    if not isinstance(score, bool | int | float) or not 0 <= score <= 1:
        return Score(None, f"{name} gave {shown(repr(score))}; a score is a number from 0 to 1, or None")
    return Score(float(score), str(reason))
