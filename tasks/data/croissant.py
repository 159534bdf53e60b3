"""A version for others: its files with a description in Croissant, the format of MLCommons for datasets.

`mlcroissant` makes the description and validates it before anything is written; whoever has the folder reads the rows
with it, or with any program that knows Croissant.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from configs.errors import SlipwayError
from delivery.build.dataset import PARTS, DatasetVersion
from delivery.clients.fresh_folder import fresh_folder

DESCRIPTION = "croissant.json"
COLUMNS = {
    "conversations": {"messages": "the conversation: messages with role and content"},
    "preferences": {
        "prompt": "the conversation so far: messages with role and content",
        "chosen": "the better answer: messages with role and content",
        "rejected": "the worse answer: messages with role and content",
    },
}


def export(version: DatasetVersion, licence: str | None, target: Path) -> Path:
    """Writes `target`, which must not be there yet: train.jsonl, holdout.jsonl and croissant.json.

    Rejected and quarantined rows stay where they are. Raises SlipwayError where the target is there, or where what
    mlcroissant has against the description is an error.
    """
    if target.exists():
        raise SlipwayError(f"{target} is there already", where="--out", cure="name a folder that is not there yet")
    target.parent.mkdir(parents=True, exist_ok=True)
    with fresh_folder(target.parent, f"export of {version.manifest.name}") as folder:
        for part in PARTS:
            shutil.copyfile(version.folder / f"{part}.jsonl", folder / f"{part}.jsonl")
        said = description(version, licence, folder)
        text = json.dumps(said, indent=2, ensure_ascii=False, default=str) + "\n"
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")
        validate(folder / DESCRIPTION)
        folder.rename(target)
    return target / DESCRIPTION


def description(version: DatasetVersion, licence: str | None, folder: Path) -> dict[str, Any]:
    """The JSON-LD of a version whose files lie in `folder`."""
    import mlcroissant as croissant

    from tasks.data.sources import file_digest

    manifest = version.manifest
    metadata = croissant.Metadata(
        name=manifest.name,
        description=_described(version),
        version="1.0.0",  # it must be of this form; the version proper is the digest in the description
        license=[licence] if licence else None,
        conforms_to=["http://mlcommons.org/croissant/1.0"],
        data_collection="; ".join(f"{one.name}, read as {one.reader}, {one.digest}" for one in manifest.sources),
        data_preprocessing_protocol=[
            f"{step.name}, version {step.version}: {step.rejected} rows removed, {step.changed} changed"
            for step in manifest.steps
        ]
        or None,
        distribution=[
            croissant.FileObject(
                id=f"{part}.jsonl",
                name=f"{part}.jsonl",
                content_url=f"{part}.jsonl",
                content_size=f"{(folder / f'{part}.jsonl').stat().st_size} B",
                encoding_formats=["application/jsonlines"],
                sha256=file_digest(folder / f"{part}.jsonl").removeprefix("sha256:"),
            )
            for part in PARTS
        ],
        record_sets=[_record_set(croissant, manifest.kind, part) for part in PARTS],
    )
    found: dict[str, Any] = metadata.to_json()
    return found


def validate(path: Path) -> None:
    """Raises SlipwayError with what mlcroissant has against a description."""
    import mlcroissant as croissant

    try:
        croissant.Dataset(jsonld=path)
    except croissant.ValidationError as error:
        raise SlipwayError(f"mlcroissant refuses the description: {error}", where=str(path)) from error


def _described(version: DatasetVersion) -> str:
    parts = version.manifest.parts
    return (
        f"Dataset version {version.digest}: {parts['train'].rows} rows to train on and {parts['holdout'].rows} held "
        f"out, of {version.manifest.read} rows that were read"
    )


def _record_set(croissant: Any, kind: str, part: str) -> Any:
    fields = [_text(croissant, part, "id", "id", "16 hex digits of the digest of what is trained on")]
    fields += [_messages(croissant, part, name, what) for name, what in COLUMNS[kind].items()]
    return croissant.RecordSet(id=part, name=part, fields=fields)


def _messages(croissant: Any, part: str, name: str, what: str) -> Any:
    keys = {"role": "system, user, assistant or tool", "content": "what is said"}
    return croissant.Field(
        id=f"{part}/{name}",
        name=name,
        description=what,
        repeated=True,
        sub_fields=[_text(croissant, part, f"{name}/{key}", name, told, key) for key, told in keys.items()],
    )


def _text(croissant: Any, part: str, name: str, column: str, what: str, key: str = "") -> Any:
    """A field out of a column; with `key` out of each object of the list in that column."""
    return croissant.Field(
        id=f"{part}/{name}",
        name=name,
        description=what,
        data_types=[croissant.DataType.TEXT],
        source=croissant.Source(
            file_object=f"{part}.jsonl",
            extract=croissant.Extract(column=column),
            transforms=[croissant.Transform(json_path=key)] if key else [],
        ),
    )
