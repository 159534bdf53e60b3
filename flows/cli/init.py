"""What `slipway init` prints: what was written, what was told from the data, and what comes next."""

from pathlib import Path

from delivery.build.guess import Guess


def render(folder: Path, found: Guess | None) -> str:
    """For people."""
    lines = [
        f"wrote {folder}: {', '.join(sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()))}"
    ]
    if found is not None:
        how = f"read as {found.reader}" if found.reader else "mapped from their fields (`messages` in dataset.yaml)"
        lines.append(f"the rows are {how}; the project is of the kind {found.kind}")
        if found.labels:
            lines.append(f"labels: {', '.join(found.labels)}")
        if found.own_system_prompts:
            lines.append(f"{found.own_system_prompts} of {found.rows} rows bring a system prompt of their own")
        lines.append(f"an answer: {found.example[:200]}")
    lines += ["", "next:", *(f"  slipway {words} --project {folder}" for words in ("check", "up", "build"))]
    return "\n".join([*lines, f"  slipway release BUNDLE --project {folder}"])
