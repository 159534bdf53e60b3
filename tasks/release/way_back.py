"""Notes on disk beside the ledger: what a rollback goes back to, and rollbacks that the ledger does not know yet.

They let a rollback work while the ledger cannot be reached. They hold prompts, and are their owner's only.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from configs.environment import Environment
from configs.errors import SlipwayError
from delivery.clients.fresh_folder import explained_writes
from delivery.clients.ledger.ledger import LedgerError
from delivery.release.messages import letters, of_rollback_without_ledger
from delivery.release.state import Command
from delivery.release.way_back import TakenBack, WayBack
from tasks.notify.direct import Direct
from tasks.release.site import Site

UNKNOWN = ".unknown"  # a note of a release that the ledger never had


def folder_of(home: Path, environment: str) -> Path:
    """Where an environment's notes are."""
    return home / "environments" / environment


def remember(site: Site, route: str) -> None:
    """Notes what is live on a route and what it goes back to, as the ledger has it."""
    pointers = site.ledger.route(site.name, route)
    if pointers is None:
        return
    made_live = site.ledger.unfinished(site.name, route)  # committed, and still being watched
    if made_live is None or made_live.candidate.bundle != pointers.live.bundle:
        made_live = site.ledger.release_that_made_live(site.name, route, pointers.live.bundle)
    note = WayBack(
        release_id=made_live.release_id if made_live is not None else "",
        live=pointers.live,
        to=made_live.stable if made_live is not None else pointers.base,
        base=pointers.base,
    )
    _write(folder_of(site.home, site.name) / f"way-back-{route}.json", note.model_dump_json())


def way_back(home: Path, environment: str, route: str) -> WayBack | None:
    """The newest note about a route; None without one that can be read."""
    file = folder_of(home, environment) / f"way-back-{route}.json"
    try:
        return WayBack.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None


def routes_with_way_back(home: Path, environment: str) -> list[str]:
    """The routes of which something is noted."""
    files = sorted(folder_of(home, environment).glob("way-back-*.json"))
    return [file.stem.removeprefix("way-back-") for file in files]


def leave_note(home: Path, environment: str, taken: TakenBack) -> Path:
    """Notes a rollback that the ledger does not know, once. Raises SlipwayError where it cannot be written."""
    for file, known in notes(home, environment):
        if known.release_id == taken.release_id:
            return file
    name = f"taken-back-{taken.at:.0f}-{secrets.token_hex(3)}.json"
    return _write(folder_of(home, environment) / name, taken.model_dump_json())


def tell_of_note(environment: Environment, file: Path, serves: str) -> None:
    """Tells of a noted rollback whoever was not told, and notes who has been. It takes a few seconds at most."""
    try:
        taken = TakenBack.model_validate_json(file.read_bytes())
    except (OSError, ValueError):  # on record since
        return
    missing = {name: one for name, one in environment.notifications.items() if name not in taken.told}
    message, direct = of_rollback_without_ledger(taken, environment.name, serves), Direct(missing)
    direct.tell([message])
    direct.wait()
    told = direct.told(message)
    if told and file.exists():
        with suppress(SlipwayError):
            _write(file, taken.model_copy(update={"told": (*taken.told, *told)}).model_dump_json())


def notes(home: Path, environment: str) -> list[tuple[Path, TakenBack]]:
    """Rollbacks that the ledger does not know yet, oldest first."""
    found = []
    for file in sorted(folder_of(home, environment).glob("taken-back-*.json")):
        try:
            found.append((file, TakenBack.model_validate_json(file.read_bytes())))
        except (OSError, ValueError):  # gone since, or another version's
            continue
    return found


def noted_command(site: Site, release_id: str) -> Command | None:
    """What a note asks of a release; its controller obeys it although the ledger is away."""
    for _, taken in notes(site.home, site.name):
        if taken.release_id == release_id:
            target = None
            if taken.to == "base" and (known := way_back(site.home, site.name, taken.route)) is not None:
                target = known.base
            return Command(
                id=0, kind="rollback", by=taken.by, reason=taken.reason, target=target, quarantine=taken.quarantine
            )
    return None


def put_on_record(site: Site) -> list[str]:
    """Tells the ledger of rollbacks that happened without it; the releases. Whoever looks next takes them to their end.

    Raises LedgerError while it still cannot be written; a note goes only when its rollback is on record.
    """
    told = []
    for file, taken in notes(site.home, site.name):
        try:
            state = site.ledger.state(taken.release_id)
        except LedgerError:
            if site.ledger.route(site.name, taken.route) is not None:  # it can be read, and has no such release
                file.rename(file.with_suffix(UNKNOWN))
                continue
            raise
        pointers = site.require_route(taken.route)
        is_over = state.phase in ("rolling_back", "rolled_back", "refused")
        if not is_over and site.ledger.command(taken.release_id) is None:
            target = pointers.base if taken.to == "base" else None
            site.ledger.add_command(
                taken.release_id, "rollback", taken.by, taken.reason, taken.at, target, quarantine=taken.quarantine
            )
        message = of_rollback_without_ledger(taken, site.name, state.stable.name)
        known = letters(site.environment.notifications, [message], taken.told)
        site.ledger.outbox.add([letter for letter in known if letter.told])  # the others are told by its controller
        file.unlink(missing_ok=True)
        told.append(taken.release_id)
    return told


def _write(file: Path, text: str) -> Path:
    with explained_writes(file.parent, "a note for rollbacks without the ledger"):
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            output.write(text)
            output.flush()
            os.fsync(output.fileno())
        fresh.replace(file)
    return file


def remember_if_possible(site: Site, route: str) -> str:
    """Why nothing could be noted; empty when it was. A release does not end for want of a note."""
    try:
        remember(site, route)
    except SlipwayError as error:
        return f"the way back cannot be noted beside the ledger: {error.what}"
    return ""
