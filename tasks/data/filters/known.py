"""The row filters by name, in the order in which a row meets them, and the steps that a recipe makes of them."""

import importlib.metadata
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from configs.canonical import digest_bytes
from configs.dataset import DatasetRecipe, Filters
from delivery.build.overlap import SuiteQuestion
from delivery.build.steps import RowStep, StepRecord
from tasks.data.filters import answers, language, length, near_duplicates, personal_data
from tasks.data.filters.eval_overlap import overlap_step

ROW_FILTERS: dict[str, ModuleType] = {
    "length": length,
    "language": language,
    "answers": answers,
    "personal_data": personal_data,
}


def steps_of(recipe: DatasetRecipe, asked: Sequence[SuiteQuestion]) -> tuple[RowStep, ...]:
    """All that judge rows one by one; `asked` are the eval suites' questions."""
    dropped = (overlap_step(asked),) if recipe.eval_overlap == "drop" else ()
    return (*row_steps(recipe.filters), *dropped)


def row_steps(filters: Filters) -> tuple[RowStep, ...]:
    """Those of `filters` that the recipe asks for."""
    chosen = {name: getattr(filters, name) for name in ROW_FILTERS}
    return tuple(
        RowStep(record_of(name, ROW_FILTERS[name], settings), partial(ROW_FILTERS[name].judge, settings))
        for name, settings in chosen.items()
        if settings is not None
    )


def near_duplicate_record(filters: Filters) -> StepRecord | None:
    """How a version remembers the comparison of its rows, where the recipe asks for it."""
    if filters.near_duplicates is None:
        return None
    return record_of("near_duplicates", near_duplicates, filters.near_duplicates)


def record_of(name: str, module: ModuleType, settings: Any) -> StepRecord:
    """With the digest of the file and the versions of the packages that decide."""
    return StepRecord(
        name=name,
        version=module.VERSION,
        settings=settings.model_dump(mode="json"),
        code=digest_bytes(Path(str(module.__file__)).read_bytes()),
        packages={package: importlib.metadata.version(package) for package in getattr(module, "PACKAGES", ())},
    )
