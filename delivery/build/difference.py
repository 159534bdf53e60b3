"""Two sets of files that should be the same: which differ, and by how much. Tensors are compared number by number."""

from collections.abc import Mapping

import numpy

from configs.strict import Strict

Tensors = Mapping[str, "numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float32]]"]
SHOWN = 5  # tensors that differ most


class TensorDifference(Strict):
    """One tensor that differs."""

    name: str
    what: str = ""  # missing, new, another shape: then there is nothing to measure
    largest: float = 0.0  # absolute difference of one number
    relative: float = 0.0  # norm of the difference by the norm of the first


class AdapterDifference(Strict):
    """`files`: names of those whose bytes differ. `tensors`: those that differ, the most different first."""

    files: tuple[str, ...]
    tensors: tuple[TensorDifference, ...] = ()
    compared: int = 0  # tensors

    @property
    def is_same(self) -> bool:
        """Byte for byte."""
        return not self.files

    def render(self) -> str:
        """For people."""
        if self.is_same:
            return "the same bytes in every file"
        if not self.tensors:
            return f"other bytes in {', '.join(self.files)}; all {self.compared} tensors are equal"
        lines = [f"other bytes in {', '.join(self.files)}; {len(self.tensors)} of {self.compared} tensors differ"]
        for one in self.tensors[:SHOWN]:
            lines.append(f"  {one.name}: {one.what or f'{one.relative:.2e} of its norm, {one.largest:.2e} at most'}")
        if len(self.tensors) > SHOWN:
            lines.append(f"  and {len(self.tensors) - SHOWN} that differ less")
        return "\n".join(lines)


def compare_files(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[str, ...]:
    """Names whose digests differ, or that only one of them has; name -> digest."""
    return tuple(sorted(name for name in {*first, *second} if first.get(name) != second.get(name)))


def compare_tensors(first: Tensors, second: Tensors) -> tuple[TensorDifference, ...]:
    """Those that are not equal, the most different first; what cannot be measured before all others."""
    found = [one for name in sorted({*first, *second}) if (one := _compare(name, first, second)) is not None]
    return tuple(sorted(found, key=lambda one: (not one.what, -one.relative, one.name)))


def _compare(name: str, first: Tensors, second: Tensors) -> TensorDifference | None:
    if name not in second:
        return TensorDifference(name=name, what="it is missing")
    if name not in first:
        return TensorDifference(name=name, what="it is new")
    a, b = first[name], second[name]
    if a.shape != b.shape:
        return TensorDifference(name=name, what=f"shape {b.shape} instead of {a.shape}")
    if numpy.array_equal(a, b):
        return None
    difference = a.astype(numpy.float64) - b.astype(numpy.float64)
    if not numpy.isfinite(difference).all():
        return TensorDifference(name=name, what="it has numbers that are not finite")
    norm = float(numpy.linalg.norm(a.astype(numpy.float64)))
    relative = float(numpy.linalg.norm(difference)) / norm if norm else float(numpy.abs(difference).max())
    return TensorDifference(name=name, largest=float(numpy.abs(difference).max()), relative=relative)
