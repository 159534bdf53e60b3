"""Commands for people who review what production answered: slipway review collect, list, next, approve, and so on."""

import json
import time
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import SlipwayError
from flows.cli.options import STATE, TUTOR, By, Home, ProjectOption, ReasonOption, decider, project_of

if TYPE_CHECKING:
    from delivery.review.items import Item
    from tasks.review.desk import Desk

commands = typer.Typer()
review = typer.Typer(no_args_is_help=True, help="Decide which answers of production become rows to train on.")
commands.add_typer(review, name="review")

ItemId = Annotated[str, typer.Argument(metavar="ITEM", help="The item's id, as list and next show it.")]
Label = Annotated[str, typer.Option(help="A word for what it is about.")]
AsJson = Annotated[bool, typer.Option("--json")]


class KindOption(StrEnum):
    """What rows an export holds."""

    conversations = "conversations"
    preferences = "preferences"


class StatusOption(StrEnum):
    """How far people have come with an item."""

    open = "open"
    approved = "approved"
    rejected = "rejected"
    erased = "erased"


class OriginOption(StrEnum):
    """Where an item comes from."""

    hand = "hand"
    escalated = "escalated"
    negative = "negative"
    contract = "contract"
    disagreement = "disagreement"
    eval = "eval"
    sampled = "sampled"


@review.command()
def collect(
    log: Annotated[
        Path | None, typer.Option(help="A traffic log's file or folder; by default that of the project's gateway.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Instead: the samples that this bundle failed in its evals.")
    ] = None,
    rows: Annotated[Path | None, typer.Option(help="Instead: rows of a file that a dataset could read.")] = None,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    by: By = None,
) -> None:
    """Put items into the queue: from the traffic log, from failed eval samples, or by hand. Safe to repeat."""
    from flows.cli.reviewed import render_collected
    from tasks.review import collect as sources

    if sum(one is not None for one in (log, bundle, rows)) > 1:
        raise SlipwayError("--log, --bundle and --rows name several places", cure="give one of them at a time")
    settings, person, now = project_of(project), decider(by), time.time()
    with _desk(project, home) as desk:
        if rows is not None:
            found = sources.from_rows(desk, rows, person, now)
        elif bundle is not None:
            found = sources.from_evals(desk, settings, home, bundle, person, now)
        else:
            found = sources.from_traffic(desk, log or sources.log_of(settings, home), person, now)
    typer.echo(render_collected(found))


@review.command(name="list")
def list_items(
    status: Annotated[StatusOption | None, typer.Option(help="Those alone; by default the open ones.")] = None,
    origin: Annotated[OriginOption | None, typer.Option(help="Those alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many items at most.")] = 20,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    as_json: AsJson = False,
) -> None:
    """Show the queue: how many items wait, the first of them, and how far two reviewers agree."""
    from flows.cli.reviewed import overview_json, render_overview
    from tasks.review.desk import overview

    wanted = StatusOption.open if status is None else status
    with _desk(project, home) as desk:
        found = overview(desk, wanted.value, None if origin is None else origin.value, limit)
    typer.echo(json.dumps(overview_json(found), indent=2) if as_json else render_overview(found, time.time()))


@review.command(name="next")
def next_item(
    item: Annotated[str | None, typer.Option(help="This item; by default the one that waits for you.")] = None,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Take an item and show it. It is yours alone for a while, or until you decide. Exit status 1: there is none."""
    from flows.cli.reviewed import render_item
    from tasks.review.desk import history, take

    person, now = decider(by), time.time()
    with _desk(project, home) as desk:
        found = take(desk, person, now, item)
        acts = history(desk, found.id) if found is not None else []
    if found is None:
        typer.echo(f"nothing waits for {person}")
        raise typer.Exit(1)
    typer.echo(found.model_dump_json(indent=2) if as_json else render_item(found, acts, now))


@review.command()
def approve(
    item: ItemId,
    reason: ReasonOption,
    label: Label = "",
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    by: By = None,
) -> None:
    """Say that the answer, as it is now, is good to learn from."""
    from tasks.review.desk import approve as do

    with _desk(project, home) as desk:
        _told(desk, do(desk, decider(by), item, reason, time.time(), label))


@review.command()
def reject(
    item: ItemId,
    reason: ReasonOption,
    label: Label = "",
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    by: By = None,
) -> None:
    """Say that nothing is to be learned from this item."""
    from tasks.review.desk import reject as do

    with _desk(project, home) as desk:
        _told(desk, do(desk, decider(by), item, reason, time.time(), label))


@review.command()
def rewrite(
    item: ItemId,
    reason: ReasonOption,
    answer: Annotated[str | None, typer.Option(help="What should have been answered.")] = None,
    answer_file: Annotated[Path | None, typer.Option(help="Instead: a file with it, UTF-8.", dir_okay=False)] = None,
    other: Annotated[bool, typer.Option("--other", help="Instead: the other answer that `next` shows.")] = False,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    by: By = None,
) -> None:
    """Write a better answer. It is to be approved like any other, by somebody else where the recipe says so."""
    from tasks.review import desk as desks

    if sum((answer is not None, answer_file is not None, other)) != 1:
        cure = "give one of --answer TEXT, --answer-file FILE, --other"
        raise SlipwayError("a rewrite needs exactly one new answer", cure=cure)
    with _desk(project, home) as desk:
        if other:
            found = desks.take_other(desk, decider(by), item, reason, time.time())
        else:
            text = _read(answer_file) if answer_file is not None else str(answer)
            found = desks.rewrite(desk, decider(by), item, text, reason, time.time())
        _told(desk, found)


@review.command(name="label")
def label_item(
    item: ItemId,
    word: Annotated[str, typer.Argument(help="At most 100 characters.")],
    reason: ReasonOption,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    by: By = None,
) -> None:
    """Say in a word what an item is about; you keep the item."""
    from tasks.review.desk import label as do

    with _desk(project, home) as desk:
        _told(desk, do(desk, decider(by), item, word, reason, time.time()))


@review.command(name="give-back")
def give_back(item: ItemId, project: ProjectOption = TUTOR, home: Home = STATE, by: By = None) -> None:
    """Let others take an item at once that you took."""
    from tasks.review.desk import give_back as do

    with _desk(project, home) as desk:
        do(desk, decider(by), item, time.time())
    typer.echo(f"{item} is given back")


@review.command()
def export(
    kind: Annotated[KindOption, typer.Argument(help="What rows to write.")] = KindOption.conversations,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
) -> None:
    """Write the rows that people approved to standard output, one JSON object a line, as a dataset reads them."""
    from tasks.review.desk import export as rows

    with _desk(project, home) as desk:
        for row in rows(desk, kind.value):
            typer.echo(json.dumps(row, ensure_ascii=False))


@review.command()
def erase(
    reason: ReasonOption,
    items: Annotated[list[str] | None, typer.Argument(metavar="[ITEM]...", help="Their ids.")] = None,
    user: Annotated[str | None, typer.Option(help="Instead: all of this user's, by the traffic log's name.")] = None,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    by: By = None,
) -> None:
    """Take the texts of items out of the ledger; their digests, and who said what about them, stay on record."""
    from flows.cli.reviewed import render_erased
    from tasks.review.desk import erase as do

    with _desk(project, home) as desk:
        typer.echo(render_erased(do(desk, decider(by), reason, time.time(), items or (), user)))


def _desk(project: Path, home: Path) -> "AbstractContextManager[Desk]":
    from tasks.review.desk import open_desk

    return open_desk(project_of(project), home)


def _told(desk: "Desk", item: "Item") -> None:
    from flows.cli.reviewed import render_state

    typer.echo(render_state(item, desk.rules))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SlipwayError(f"the answer cannot be read: {error}", where=f"--answer-file {file}") from error
