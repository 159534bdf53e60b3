"""What one writes without Slipway, in a process of its own: `python -m benchmarks.data.plain ROWS TOKENIZER HOME`.

The `datasets` library reads the lines, counts tokens by the chat template, drops what is too long, splits and writes;
`datasketch` finds near duplicates with its own index in memory, as its documentation shows. The library gives a whole
file up at the first line that is no JSON, so that such lines are dropped beforehand. A pair is a near duplicate by the
estimate alone, removed rows leave no reason, and a prompt may end up on both sides.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import datasets
from datasketch import MinHash, MinHashLSH
from transformers import AutoTokenizer

from benchmarks.data.ours import SIMILARITY, SYSTEM_PROMPT

MAX_TOKENS = 512


def main(rows: str, tokenizer_folder: str, home: str) -> None:
    """Prints how many rows were kept."""
    datasets.disable_progress_bars()
    folder = Path(home)
    folder.mkdir(parents=True)
    with Path(rows).open() as lines, (folder / "whole.jsonl").open("w") as out:
        out.writelines(line for line in lines if _is_json(line))
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)

    def count(batch: dict[str, list[Any]]) -> dict[str, list[int]]:
        said = [[{"role": "system", "content": SYSTEM_PROMPT}, *messages] for messages in batch["messages"]]
        texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in said]
        return {"tokens": [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]}

    data = datasets.load_dataset(
        "json", data_files=str(folder / "whole.jsonl"), split="train", cache_dir=str(folder / "cache")
    )
    kept = data.map(count, batched=True).filter(lambda batch: [n <= MAX_TOKENS for n in batch["tokens"]], batched=True)
    index = MinHashLSH(threshold=SIMILARITY, num_perm=128)
    empty = MinHash(num_perm=128)
    new = []
    for number, messages in enumerate(kept["messages"]):
        words = re.findall(r"\w+", "\n".join(message["content"] for message in messages).lower())
        sketch = empty.copy()
        sketch.update_batch([" ".join(words[at : at + 3]).encode() for at in range(max(1, len(words) - 2))])
        if not index.query(sketch):
            index.insert(number, sketch)
            new.append(number)
    kept = kept.select(new)
    parts = kept.train_test_split(test_size=0.01, seed=17)
    for name, part in parts.items():
        part.to_json(str(folder / f"{name}.jsonl"))
    print(len(kept))


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
