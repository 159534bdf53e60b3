"""The names and shapes of a safetensors file, read from its header: no torch, no weights in memory."""

import json
from pathlib import Path

from configs.errors import SlipwayError

MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape. Raises SlipwayError when the file is missing, cut short or no safetensors."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        if size != 8 + length + end:
            raise ValueError(f"{size} bytes instead of {8 + length + end}")
        return {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except FileNotFoundError as error:
        raise SlipwayError(f"{path} does not exist") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise SlipwayError(f"{path} is no whole safetensors file: {error}", cure="save or copy it again") from error


def read_model_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The same over all safetensors files of a model's folder."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        shapes.update(read_shapes(path))
    return shapes
