"""Input that makes no dataset version: the error names the rows, the counts and what to change."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.dataset import DatasetRecipe
from configs.errors import Problem, SlipwayError
from delivery.build.dataset import PARTS, Part, PartSummary
from delivery.build.report import RowTally
from delivery.build.rows import Rejected

NO_FAULT = frozenset({"duplicate", "near-duplicate", "erased"})
"""Reasons for which nobody has to correct a row."""

SHOWN = 5  # rejected rows that an error names; all of them would bury the message


def refuse_bad_rows(
    recipe: DatasetRecipe, tally: RowTally, bad_rows: Sequence[Rejected], sources: Sequence[str]
) -> None:
    """Raises SlipwayError where more rows are unusable than the recipe allows, or none is left.

    `bad_rows`: the first few of them; duplicates are none.
    """
    reasons = tally.rejected()
    bad = sum(rows for reason, rows in reasons.items() if reason not in NO_FAULT)
    read, kept = tally.read, tally.kept
    share = bad / read
    if kept and share <= recipe.max_rejected_share:
        return
    shown = [Problem(f"{row.source}: row {row.row}", f"{row.reason}: {row.detail}") for row in bad_rows]
    if bad > SHOWN:
        counts = ", ".join(f"{n} {reason}" for reason, n in reasons.items() if reason not in NO_FAULT)
        shown.append(Problem("", f"... and {bad - SHOWN} more; in all: {counts}"))
    raise SlipwayError(
        f"dataset {recipe.name!r}: {bad} of {read} rows of {', '.join(sources)} are unusable ({share:.1%}, "
        f"max_rejected_share is {recipe.max_rejected_share:.1%}), {kept} are left",
        problems=shown,
        cure="correct the rows, or change `reader`, `filters` or max_rejected_share in dataset.yaml",
    )


def refuse_mixture(recipe: DatasetRecipe, tally: RowTally) -> None:
    """Raises SlipwayError for pairs and conversations in one version."""
    if 0 < tally.preferences < tally.kept:
        raise SlipwayError(
            f"dataset {recipe.name!r} mixes {tally.preferences} preference pairs with "
            f"{tally.kept - tally.preferences} conversations, and no training method takes both",
            cure="keep them in two recipes: conversations for sft, pairs for dpo",
        )


def refuse_empty_part(recipe: DatasetRecipe, folder: Path, parts: Mapping[Part, PartSummary], units: int) -> None:
    """Raises SlipwayError for a split that leaves nothing to train on, or nothing held out."""
    for part in PARTS:
        if not parts[part].rows:
            size = recipe.split.model_dump(exclude={"salt"}, exclude_none=True)
            what = "prompts" if recipe.split.group_by is None else f"values of {recipe.split.group_by}"
            raise SlipwayError(
                f"dataset {recipe.name!r}: the split leaves no rows for {part}: {units} different {what}, {size}",
                where=f"{folder / 'dataset.yaml'}: split",
                cure="set holdout_prompts (or holdout_share) so that both parts get prompts",
            )
