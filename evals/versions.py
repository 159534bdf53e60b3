"""A suite's version: what must be equal for two results of it to be comparable.

It covers the settings, the samples, and the code of the one scorer with all of Slipway's eval modules that this code
imports. So editing one scorer changes the version of the suites that use it, and of no others.
"""

import ast
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from configs.canonical import digest_bytes, digest_of
from evals.samples import Sample
from evals.scorers.function import FunctionScorer
from evals.scorers.kinds import ScorerConfig

_ROOT = Path(__file__).parents[1]


def suite_version(settings: dict[str, Any], scorer: ScorerConfig, samples: Sequence[Sample]) -> str:
    """The digest. `settings` are the eval.yaml's but for its description; `scorer` has its places filled in."""
    rows = [sample.model_dump(mode="json") for sample in samples]
    return digest_of({"config": settings, "samples": rows, "code": code_of(scorer)})


def code_of(scorer: ScorerConfig) -> dict[str, str]:
    """The digest of each module that a scorer's verdicts depend on, by its name."""
    found = _closure(type(scorer).__module__)
    if not isinstance(scorer, FunctionScorer):
        return found
    data = scorer.file.read_bytes()
    used = {name: digest for module in _imported(data) for name, digest in _closure(module).items()}
    return {**found, **used, "function": digest_bytes(data)}


def _closure(start: str) -> dict[str, str]:
    found: dict[str, str] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in found or (source := _source(name)) is None:
            continue
        found[name] = digest_bytes(source)
        waiting += _imported(source)
    return found


@lru_cache(maxsize=64)
def _source(module: str) -> bytes | None:
    path = _ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return path.read_bytes() if path.is_file() else None


def _imported(source: bytes) -> Iterator[str]:
    """Slipway's eval modules that some code imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] == "evals")
