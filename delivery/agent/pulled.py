"""An adapter out of a bundle that this machine pulls and verifies by itself: nothing is taken on anybody's word."""

import shutil
from pathlib import Path

from configs.agent import AgentConfig
from configs.canonical import short
from configs.errors import SlipwayError
from delivery.agent.folder import keep
from delivery.clients.bundles import layout
from delivery.clients.fresh_folder import discard, fresh_folder
from delivery.clients.registry.pull import pull
from delivery.clients.registry.reference import parse
from delivery.clients.registry.wire import Wire

HOME = ".pulled"  # beside the adapters, on the same disk: what has arrived of a bundle that is not whole yet


def pull_in(folder: Path, config: AgentConfig, digest: str, as_of: float, name: str | None = None) -> str:
    """Keeps the adapter of the bundle with this digest in the registry; the adapter's own digest.

    Every byte is hashed as it comes, and a signature must count at `as_of`, in UNIX seconds, where signatures are
    required. `name` is the adapter that the bundle must hold. Raises RegistryError for what the registry does,
    SlipwayError for a bundle that is refused; nothing of it is kept then.
    """
    repository = parse(str(config.registry.repository))
    wire = Wire(repository.host, config.registry)
    found = pull(wire, repository.at(digest), folder / HOME, config.signatures, as_of)
    try:
        adapter, where = found.bundle.adapter, str(found.reference)
        if adapter is None:
            raise SlipwayError(f"bundle {short(found.bundle.digest)} has no adapter", where=where)
        if name is not None and short(adapter.digest) != name:
            raise SlipwayError(f"the bundle holds adapter {short(adapter.digest)}, not {name}", where=where)
        with fresh_folder(folder, f"adapter {short(adapter.digest)}") as fresh:
            for file, content in layout.adapter_files(found.folder):
                with (fresh / file).open("xb") as written:
                    shutil.copyfileobj(content, written)
            return keep(fresh, folder, short(adapter.digest))
    finally:
        discard(found.folder)  # its adapter is all that vLLM needs, and the room is for adapters
