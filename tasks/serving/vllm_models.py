"""Which architectures can carry a LoRA in the vLLM at hand, by its own sources: nothing of it is imported.

Importing vLLM takes half a minute, and a table of ours would be another version's soon.
"""

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

CARRIES = "SupportsLoRA"  # vLLM's own mark: the class that a model inherits from
MODELS = "model_executor/models"


def carries_lora(python: Path, architecture: str) -> bool | None:
    """Whether the vLLM of that interpreter says so of config.json's architecture; None where it cannot be told.

    An architecture that vLLM does not list is served by transformers' own classes, which carry LoRAs: None too.
    """
    package = vllm_package(python)
    if package is None:
        return None
    try:
        listed = _registry(package / MODELS / "registry.py").get(architecture)
        return None if listed is None else _inherits(package, _module(package, *listed), listed[1], frozenset())
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def vllm_package(python: Path) -> Path | None:
    """The folder of the vLLM that this interpreter would import; None where there is none."""
    found = sorted(python.parent.parent.glob("lib/python3*/site-packages/vllm"))
    return found[0] if found else None


@lru_cache(maxsize=4)
def _registry(path: Path) -> dict[str, tuple[str, str]]:
    """Architecture -> (module, class), from every table of vLLM's registry."""
    listed: dict[str, tuple[str, str]] = {}
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple) and len(value.elts) == 2:
                    parts = [part.value for part in value.elts if isinstance(part, ast.Constant)]
                    if len(parts) == 2 and all(isinstance(part, str) for part in (key.value, *parts)):
                        listed.setdefault(str(key.value), (str(parts[0]), str(parts[1])))
    return listed


def _module(package: Path, name: str, _class: str = "") -> Path | None:
    """The file of a module: `llama` lies among the models, `vllm.models.x` where its name says."""
    parts = name.split(".")
    base = package.joinpath(*parts[1:]) if parts[0] == "vllm" else package / MODELS / name
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _inherits(package: Path, path: Path | None, name: str, seen: frozenset[tuple[Path, str]]) -> bool | None:
    """Whether the class, or one that it inherits from, is marked."""
    if path is None or (path, name) in seen:
        return None
    tree = _parsed(path)
    found = next((n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == name), None)
    if found is None:
        origin = _imported(package, path, tree, name)
        return _inherits(package, *origin, seen | {(path, name)}) if origin else None
    said = _said(found)
    if said is not None:
        return said
    bases = [base.id for base in found.bases if isinstance(base, ast.Name)]
    if CARRIES in bases:
        return True
    verdicts = []
    for base in bases:
        local = any(isinstance(node, ast.ClassDef) and node.name == base for node in ast.walk(tree))
        origin = (path, base) if local else _imported(package, path, tree, base)
        verdicts.append(_inherits(package, *origin, seen | {(path, name)}) if origin else False)
    return True if True in verdicts else None if None in verdicts else False


def _said(found: ast.ClassDef) -> bool | None:
    """`supports_lora = False` in the class itself."""
    for node in found.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "supports_lora" for target in targets):
                return bool(node.value.value)
    return None


def _imported(package: Path, path: Path, tree: ast.Module, name: str) -> tuple[Path, str] | None:
    """Where a name comes from, if from vLLM itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    found = next(_places(package, path, node), None)
                    return (found, alias.name) if found else None
    return None


def _places(package: Path, path: Path, node: ast.ImportFrom) -> Iterator[Path]:
    if node.level:
        base = path.parents[node.level - 1].joinpath(*(node.module or "").split(".")) if node.module else path.parent
    elif (node.module or "").split(".")[0] == "vllm":
        base = package.joinpath(*str(node.module).split(".")[1:])
    else:
        return
    yield from (found for found in (base.with_suffix(".py"), base / "__init__.py") if found.is_file())


@lru_cache(maxsize=64)
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
