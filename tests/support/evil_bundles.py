"""Bundles that somebody changed with care: every digest above the change fits again, unless that is the change."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signed_bundles import make_bundle, sign_layout

from configs.canonical import canonical_json, digest_bytes
from delivery.clients.registry.verify import add_signature, signatures_in

Members = dict[str, tuple[tarfile.TarInfo, bytes]]


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest[7:]


def _put(layout: Path, content: bytes) -> dict[str, Any]:
    _blob(layout, digest_bytes(content)).write_bytes(content)
    return {"digest": digest_bytes(content), "size": len(content)}


def reseal(layout: Path, change: Callable[[Members], None]) -> None:
    """Changes what the last layer of the image holds, and every digest above it."""
    index = json.loads((layout / "index.json").read_bytes())
    manifests = [json.loads(_blob(layout, entry["digest"]).read_bytes()) for entry in index["manifests"]]
    old = manifests[0]["layers"][-1]["digest"]
    with tarfile.open(_blob(layout, old)) as tar:
        members = {m.name: (m, (tar.extractfile(m) or io.BytesIO()).read() if m.isfile() else b"") for m in tar}
    change(members)
    fresh = io.BytesIO()
    with tarfile.open(fileobj=fresh, mode="w") as tar:
        for info, content in members.values():
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    layer = _put(layout, fresh.getvalue())
    kept = {layer["digest"]}
    for entry, manifest in zip(index["manifests"], manifests, strict=True):
        config = json.loads(_blob(layout, manifest["config"]["digest"]).read_bytes())
        text = json.dumps(config).replace(old, layer["digest"])
        manifest["config"] |= _put(layout, text.encode())
        manifest["layers"][-1] |= layer
        entry |= _put(layout, canonical_json(manifest))
        kept |= {entry["digest"], manifest["config"]["digest"], *(one["digest"] for one in manifest["layers"])}
    for path in (layout / "blobs" / "sha256").iterdir():
        if f"sha256:{path.name}" not in kept:
            path.unlink()
    (layout / "index.json").chmod(0o644)
    (layout / "index.json").write_bytes(canonical_json(index))


def _added(name: str, content: bytes = b"x", **fields: Any) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        info = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        members[name] = (info, content)

    return change


def _other_prompt(members: Members) -> None:
    info, content = members["models/bundle.json"]
    members["models/bundle.json"] = (info, content.replace(b'"Ask."', b'"Lie."'))


RESEALED: dict[str, tuple[Callable[[Members], None], str]] = {
    "a path out of the folder": (_added("models/../../evil.sh"), "does not belong"),
    "an absolute path": (_added("/etc/cron.d/evil"), "does not belong"),
    "a pickle": (_added("models/adapter_model.bin", b"\x80\x04."), "does not belong"),
    "an unexpected file": (_added("models/run.sh"), "does not belong"),
    "a symbolic link": (
        _added("models/README.md", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "does not belong",
    ),
    "a hard link": (
        _added("models/README.md", b"", type=tarfile.LNKTYPE, linkname="models/bundle.json"),
        "does not belong",
    ),
    "another prompt": (_other_prompt, "it speaks of bundle"),
}


def resealed(home: Path, kind: str, owner: Any) -> tuple[Path, str]:
    """A layout in which one thing is wrong, signed by `owner` all the same, and what is said of it."""
    _, layout = make_bundle(home)
    change, word = RESEALED[kind]
    reseal(layout, change)
    sign_layout(layout, owner)
    return layout, word


def with_signatures_of(layout: Path, other: Path) -> None:
    """Takes away the layout's own signatures, and lays those of another bundle beside it."""
    shutil.rmtree(layout / "signatures", ignore_errors=True)
    for signature in signatures_in(other).values():
        add_signature(layout, signature)
