"""The bundles of this state folder: one OCI image layout per bundle digest, written once, verified whenever read."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from configs.canonical import short
from configs.errors import Problem, SlipwayError
from delivery.build.bundle import Bundle
from delivery.clients.bundles import adapters as adapter_store
from delivery.clients.bundles import layout as oci_layout
from delivery.clients.fresh_folder import discard, fresh_folder


def bundle_folder(bundle: Bundle, home: Path) -> Path:
    """Where a bundle's image layout lives below the state folder."""
    return home / "bundles" / short(bundle.digest)


def write_bundle(
    bundle: Bundle, adapter_folder: Path | None, home: Path, documents: Mapping[str, bytes] | None = None
) -> Path:
    """The bundle's image layout, written atomically; a whole one that is there is left alone, its documents too.

    Raises SlipwayError when the folder does not hold exactly the bundle's adapter.
    """
    if (bundle.trained is None) != (adapter_folder is None):
        raise SlipwayError("a bundle with an adapter needs the adapter's folder, and one without must have none")
    if bundle.trained is not None and adapter_folder is not None:
        problems = adapter_store.problems_of(bundle.trained, adapter_folder)
        if problems:
            raise SlipwayError(f"{adapter_folder} is not the bundle's adapter", problems=problems)
    place = bundle_folder(bundle, home)
    if place.is_dir() and not _verdict(place)[1]:
        return place
    with fresh_folder(place.parent, f"bundle {short(bundle.digest)}") as fresh:
        oci_layout.write_layout(bundle, adapter_folder, fresh, documents)
        oci_layout.verify(fresh)
        discard(place)
        fresh.replace(place)
    return place


def read_bundle(home: Path, reference: str) -> Bundle:
    """The bundle with this digest, variant name, or unique prefix of its digest; every byte of it verified."""
    return oci_layout.verify(_resolve(home, reference))


def find_bundle(home: Path, reference: str) -> Path:
    """The folder of the bundle that `read_bundle` would read, whatever is in it."""
    return _resolve(home, reference)


def read_documents(home: Path, reference: str) -> tuple[Path, dict[str, bytes]]:
    """The bundle's image layout, and its documents by name: verified, and about this very bundle."""
    layout = _resolve(home, reference)
    oci_layout.verify(layout)
    return layout, oci_layout.documents(layout)


def unpack_adapter(bundle: Bundle, home: Path) -> Path:
    """home/adapters/<digest12> with the bundle's adapter, verified; taken out of the image unless it is there."""
    if bundle.adapter is None:
        what = "a merged model" if bundle.merged else "the base model"
        raise SlipwayError(f"bundle {short(bundle.digest)} is {what} and has no adapter")
    place = adapter_store.adapter_folder(bundle.adapter, home)
    if not adapter_store.problems_of(bundle.adapter, place):
        return place
    layout = _resolve(home, bundle.digest)
    oci_layout.verify(layout)
    with fresh_folder(home / "adapters", f"adapter {short(bundle.adapter.digest)}") as scratch:
        for name, content in oci_layout.adapter_files(layout):
            with (scratch / name).open("wb") as file:
                shutil.copyfileobj(content, file)
        return adapter_store.store(scratch, bundle.adapter, home)


def list_bundles(home: Path) -> list[Bundle]:
    """All whole bundles, newest first."""
    return [bundle for bundle, _ in map(_verdict, _layouts(home)) if bundle is not None]


def damaged_bundles(home: Path) -> list[Problem]:
    """Why the others are not listed."""
    return [problem for _, problems in map(_verdict, _layouts(home)) for problem in problems]


def _layouts(home: Path) -> list[Path]:
    folders = (home / "bundles").glob("[0-9a-f]*") if (home / "bundles").is_dir() else ()
    return sorted(folders, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _resolve(home: Path, reference: str) -> Path:
    wanted = reference.removeprefix("sha256:").removeprefix("lora-").removeprefix("base-").removeprefix("merged-")
    layouts = _layouts(home)
    matches = [path for path in layouts if wanted and (path.name.startswith(wanted) or wanted.startswith(path.name))]
    if len(matches) == 1 and (len(wanted) <= 12 or oci_layout.verify(matches[0]).digest.startswith(f"sha256:{wanted}")):
        return matches[0]
    what = "fits several bundles" if len(matches) > 1 else "is no bundle"
    known = ", ".join(path.name for path in matches or layouts) or "none; `slipway build` makes one"
    raise SlipwayError(f"{reference!r} {what}", where=str(home / "bundles"), cure=f"known: {known}")


def _verdict(folder: Path) -> tuple[Bundle | None, list[Problem]]:
    try:
        return oci_layout.verify(folder), []
    except SlipwayError as error:
        return None, [Problem(error.where, error.what, error.cure)]
