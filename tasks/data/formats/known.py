"""The table of formats, and which of them a file has: by its source, else by its name, packed or not."""

from pathlib import Path

from configs.errors import SlipwayError
from tasks.data.formats import delimited, json_array, jsonl, tables
from tasks.data.formats.datafile import PACKED, Format

FORMATS: dict[str, Format] = {
    "jsonl": jsonl.FORMAT,
    "json": json_array.FORMAT,
    "csv": delimited.CSV,
    "tsv": delimited.TSV,
    "parquet": tables.PARQUET,
    "arrow": tables.ARROW,
}


def format_by_name(path: Path) -> str | None:
    """The format that a file's suffix tells."""
    bare = Path(path.stem) if path.suffix.lower() in PACKED else path
    return next((name for name, one in FORMATS.items() if bare.suffix.lower() in one.suffixes), None)


def require_format(path: Path, named: str | None, where: str) -> str:
    """The format to read a file by. Raises SlipwayError where there is none of this name, or the suffix tells none."""
    if named is not None and named not in FORMATS:
        raise SlipwayError(f"there is no format {named!r}", where=where, cure=f"known: {', '.join(FORMATS)}")
    found = named or format_by_name(path)
    if found is None:
        suffixes = ", ".join(suffix for one in FORMATS.values() for suffix in one.suffixes)
        raise SlipwayError(
            f"cannot tell how to read {path}: its suffix is {path.suffix!r}",
            where=where,
            cure=f"say `format` ({', '.join(FORMATS)}), or use a suffix: {suffixes}, each perhaps with .gz or .zst",
        )
    return found
