"""Datasets on the Hugging Face hub, at a commit: the `datasets` library fetches them once and finds them again."""

from collections.abc import Iterator

from configs.dataset import Source
from configs.errors import SlipwayError
from tasks.data.formats.datafile import FileRow
from tasks.data.formats.tables import BATCH_ROWS, records_of


def read(source: Source) -> Iterator[FileRow]:
    """Row by row, from the library's cache on disk. Raises SlipwayError when the hub or the dataset is out of reach."""
    import datasets

    name = f"{source.hub} at {source.revision}"
    try:
        table = datasets.load_dataset(source.hub, source.subset, revision=source.revision, split=source.split)
    except Exception as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SlipwayError(
            f"the dataset {name}, split {source.split}, cannot be had from the hub: {type(error).__name__}: {cause}",
            cure="check name, revision, subset and split, and that this machine reaches the hub (HF_ENDPOINT, "
            "HF_TOKEN, HF_HUB_OFFLINE); or save the dataset elsewhere (save_to_disk) and name its folder as `path`",
        ) from error
    batches = table.with_format("arrow").iter(BATCH_ROWS)
    yield from records_of(batches)
