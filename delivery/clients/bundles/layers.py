"""A bundle's files as tar layers under /models, one a kind, so that what two bundles share is kept and sent once.

Nothing in a layer knows a time, a user or a machine: the same files always give the same bytes.
"""

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from configs.errors import SlipwayError

ROOT, BUNDLE_FILE = "models", "bundle.json"
WEIGHTS, SETTINGS, DOCUMENTS = "weight", "weight.config", "doc"  # the CNCF ModelPack's words for kinds of layers
MERGED_WEIGHTS = "model.safetensors"
MERGED_SETTINGS = (  # what a folder with a whole model may hold beside its weights
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
KINDS = {"adapter_model.safetensors": WEIGHTS, "adapter_config.json": SETTINGS, BUNDLE_FILE: SETTINGS}
KINDS |= {MERGED_WEIGHTS: WEIGHTS, **dict.fromkeys(MERGED_SETTINGS, SETTINGS)}

Content = bytes | Path


def by_kind(files: Mapping[str, Content]) -> dict[str, dict[str, Content]]:
    """The files of each layer by their names below /models: weights, their settings, and what people read."""
    kinds = {
        kind: {n: files[n] for n in sorted(files) if kind_of(n) == kind} for kind in (WEIGHTS, SETTINGS, DOCUMENTS)
    }
    return {kind: found for kind, found in kinds.items() if found}


def kind_of(name: str) -> str:
    """The kind of layer that a file belongs to."""
    return KINDS.get(name, DOCUMENTS)


def write_layer(path: Path, files: Mapping[str, Content]) -> None:
    """A tar file of some files below /models, in the order of their names."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        root = _entry(ROOT, 0)
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(root)
        for name, content in sorted(files.items()):
            if isinstance(content, bytes):
                tar.addfile(_entry(f"{ROOT}/{name}", len(content)), io.BytesIO(content))
            else:
                with content.open("rb") as file:
                    tar.addfile(_entry(f"{ROOT}/{name}", content.stat().st_size), file)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)  # time, user and group 0 and without names
    entry.size, entry.mode = size, 0o444
    return entry


def members(layer: Path, known: frozenset[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """The layer's regular files by their names below /models. Anything else than the known names is refused."""
    try:
        with tarfile.open(layer, "r:") as tar:
            for member in tar:
                if member.isdir() and member.name == ROOT:
                    continue
                root, _, name = member.name.partition("/")
                is_plain = member.isreg() and not member.issparse()
                content = tar.extractfile(member) if is_plain else None
                if root != ROOT or name not in known or content is None:
                    raise damaged(layer, f"{member.name} does not belong into a bundle")
                yield name, content
    except tarfile.TarError as error:
        raise damaged(layer, f"not a tar file: {error}") from error


def damaged(path: Path, what: str) -> SlipwayError:
    """A bundle on disk that cannot be used, and the file that shows it."""
    return SlipwayError(f"a bundle is damaged: {what}", where=str(path), cure="remove its folder and build it again")
