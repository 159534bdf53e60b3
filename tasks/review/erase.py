"""Erases a person from both places that keep what people said: the dataset versions and the review queue.

The order for the versions goes on record first: whoever is killed in between gives the same command again, and what was
collected meanwhile enters no version.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import SlipwayError
from configs.project import Project
from delivery.build.dataset import Part
from delivery.review.items import Item
from delivery.review.rows import FIELD
from tasks.data import erase as versions
from tasks.data.erase import Erased
from tasks.review.desk import open_desk

USER = f"{FIELD}.user"  # where a reviewed row names the traffic log's pseudonym


@dataclass(frozen=True)
class ErasedPerson:
    """`rows` has one entry for each way in which the person was named in dataset versions."""

    rows: tuple[Erased, ...]
    items: tuple[Item, ...]  # of the review queue, without what they said
    asked_queue: bool
    dry_run: bool

    def versions_of(self, part: Part) -> tuple[str, ...]:
        """The versions of whose part rows are gone."""
        return tuple(dict.fromkeys(one for erased in self.rows for one in erased.versions_of(part)))

    def render(self) -> str:
        """For people: what was done in both places."""
        lines = [one.render() for one in self.rows]
        if self.asked_queue:
            verb = "would be erased" if self.dry_run else "erased"
            lines.append(f"{verb} in the review queue: the texts of {len(self.items)} items; their digests stay")
            lines += [f"  {item.id} was read by dataset version {item.dataset}" for item in self.items if item.dataset]
        else:
            lines.append("the review queue was not asked: name the person as the traffic log does, with --user")
        return "\n".join(lines)


def erase_person(
    project: Project,
    home: Path,
    where: tuple[str, str] | None,
    rows: Sequence[str],
    user: str | None,
    by: str,
    reason: str,
    now: float,
    *,
    dry_run: bool = False,
) -> ErasedPerson:
    """Rows whose field has a value (`where`) or with these ids, and all of `user`, the traffic log's pseudonym.

    `now` is UNIX seconds. Raises SlipwayError, with nothing changed, where the person is in neither place.
    """
    named = [(where, rows)] if where is not None or rows else []
    with open_desk(project, home) as desk:
        waiting = tuple(desk.ledger.review.of_user(desk.queue, user)) if user else ()
        for pair, ids in named:
            versions.require_known(home, pair, ids)
        known = bool(waiting) or bool(named) or versions.is_known(home, (USER, str(user)), ())
        if user and not known:
            raise SlipwayError(
                f"neither the review queue of {desk.queue.route} nor a dataset version has anything of user {user!r}",
                where="--user",
                cure="give the pseudonym that the traffic log has (column user); slipway review list --json shows some",
            )
        orders = [*named, *([((USER, user), ())] if user else [])]
        done = tuple(
            versions.erase(home, pair, ids, by, reason, now, dry_run=dry_run, may_be_nothing=pair == (USER, user))
            for pair, ids in orders
        )
        if user and not dry_run:
            waiting = tuple(desk.ledger.review.erase(desk.queue, by, reason, now, user=user))
    return ErasedPerson(done, waiting, bool(user), dry_run)
