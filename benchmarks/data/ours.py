"""One dataset version, in a process of its own: `python -m benchmarks.data.ours ROWS TOKENIZER HOME`."""

import sys
from pathlib import Path

from configs.dataset import DatasetRecipe
from tasks.data.dataset import build_dataset

SYSTEM_PROMPT = "Answer briefly."
SIMILARITY = 0.8


def main(rows: str, tokenizer: str, home: str) -> None:
    """Prints how many rows were kept."""
    filters = {
        "near_duplicates": {"similarity": SIMILARITY},
        "length": {"min_answer_words": 2},
        "answers": {},
    }
    settings = {"name": "made-up", "sources": [{"path": rows}], "split": {"holdout_share": 0.01}, "filters": filters}
    recipe = DatasetRecipe.model_validate(settings)
    version = build_dataset(recipe, Path(), Path(tokenizer), SYSTEM_PROMPT, Path(home))
    print(version.manifest.kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
