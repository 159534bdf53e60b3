"""Whoever changes, removes or adds a row around Slipway is found by following the ledger's hash chain."""

import json
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.tiny_bundle import tiny_bundle
from configs.errors import SlipwayError
from configs.routing import RoutingTable, Variant
from delivery.clients.ledger.chain import FIRST, follow
from delivery.clients.ledger.ledger import Ledger, LedgerError
from delivery.clients.ledger.writes import note
from delivery.release.routes import alone
from delivery.release.state import Served

BASE = tiny_bundle("a long prompt")


@pytest.fixture
def ledger(tmp_path: Path, empty_ledger: Path) -> Iterator[Ledger]:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    found = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    yield found
    found.close()


@pytest.fixture
def postgres_ledger(new_postgres: Callable[[], str]) -> Iterator[Ledger]:
    found = Ledger(new_postgres())
    yield found
    found.close()


def lived(ledger: Ledger) -> list[str]:
    """A ledger with a little history, exported."""
    served = Served(
        bundle=BASE.digest,
        name=BASE.variant_name,
        variant=Variant(model=BASE.served_name, upstreams=("http://vllm",), system_prompt=BASE.system_prompt),
    )
    ledger.set_base("local", "tutor", served, BASE, "me", 1.0)
    for revision in (1, 2):
        table = RoutingTable(revision=revision, routes={"tutor": alone(served, "salt", "epoch")})
        ledger.add_table("local", table, "a test", "me", 2.0)
    ledger.acquire("local", "me", 30, 3.0)
    for n in range(4):
        ledger.audit.asked("local", "ann", f"question {n}", 4.0 + n)
    return list(ledger.export())


def tampered(folder: Path, *orders: str) -> list[str]:
    """The ledger after somebody with the database's password has worked on it."""
    with sqlite3.connect(folder / "ledger.sqlite") as database:
        guards = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (guard,) in guards:
            database.execute(f"DROP TRIGGER {guard}")
        for order in orders:
            assert database.execute(order).rowcount > 0, order
    reopened = Ledger(f"sqlite:///{folder}/ledger.sqlite")
    try:
        return list(reopened.export())
    finally:
        reopened.close()


def test_an_untouched_ledger_is_whole_and_each_row_has_its_link(ledger: Ledger) -> None:
    assert follow(ledger.export()) == follow([]), "an empty ledger has no link"
    found = follow(lived(ledger))
    assert found.problems == ()
    assert found.head != FIRST
    links = [line for line in ledger.export() if json.loads(line)["table"] == "chain"]
    assert found.rows == len(links) >= 8


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ("UPDATE events SET who = 'omar' WHERE text = 'question 1'", "the row was changed after it was written"),
        ("UPDATE events SET at = at + 1 WHERE text = 'question 3'", "the row was changed after it was written"),
        ("DELETE FROM events WHERE text = 'question 3'", "the row was removed"),
        ("DELETE FROM routing_revisions WHERE revision = 1", "routing_revisions local/1: the row was removed"),
        (
            "INSERT INTO quarantine VALUES (7, 'sha256:x', 0, 'it is bad', 'omar', 9.0)",
            "quarantine 7: the row is not linked",
        ),
        ("DELETE FROM chain WHERE seq = 2", "it does not follow the one before it"),
        ("UPDATE chain SET row = hash WHERE seq = 3", "link 3"),
    ],
)
def test_what_is_done_around_slipway_is_named(ledger: Ledger, tmp_path: Path, order: str, told: str) -> None:
    lived(ledger)
    assert any(told in problem for problem in follow(tampered(tmp_path, order)).problems)


def test_a_row_whose_link_was_changed_with_it_breaks_the_chain_after_it(ledger: Ledger) -> None:
    """All that a forger can do short of making every later link anew, at every place."""
    lines = [json.loads(line) for line in lived(ledger)]
    links = [line["row"] for line in lines if line["table"] == "chain"]
    for link in links[:-1]:
        kept = dict(link)
        link["row"] = link["hash"] = "sha256:" + "1" * 64
        assert any("does not follow" in one for one in follow(json.dumps(line) for line in lines).problems), kept
        link.update(kept)
    assert follow(json.dumps(line) for line in lines).problems == ()


def test_a_shortened_chain_is_found_by_the_head_that_was_noted(ledger: Ledger, tmp_path: Path) -> None:
    noted = follow(lived(ledger)).head
    last = "(SELECT max(seq) FROM chain)"
    lines = tampered(tmp_path, "DELETE FROM events WHERE text = 'question 3'", f"DELETE FROM chain WHERE seq = {last}")
    assert follow(lines).problems == (), "nothing in the ledger itself tells of it"
    assert [noted in problem for problem in follow(lines, noted).problems] == [True]


def test_an_earlier_head_stays_in_the_chain(ledger: Ledger) -> None:
    noted = follow(lived(ledger)).head
    ledger.audit.asked("local", "ann", "one more", 9.0)
    found = follow(ledger.export(), noted)
    assert found.problems == ()
    assert found.head != noted


def test_a_ledger_older_than_the_chain_is_linked_whole_by_its_next_write(ledger: Ledger, tmp_path: Path) -> None:
    lived(ledger)
    lines = tampered(tmp_path, "DELETE FROM chain")
    assert [problem.split(":")[0] for problem in follow(lines).problems] == ["no row is linked yet"]
    ledger.audit.asked("local", "ann", "one more", 9.0)
    assert follow(ledger.export()).problems == ()


def test_the_order_of_an_exports_lines_does_not_matter_but_for_the_links(ledger: Ledger) -> None:
    lines = lived(ledger)
    rows = [line for line in lines if json.loads(line)["table"] != "chain"]
    random.Random(1).shuffle(rows)
    assert follow([*(line for line in lines if line not in rows), *rows]) == follow(lines)


def test_a_transaction_that_fails_leaves_no_link(ledger: Ledger) -> None:
    before = lived(ledger)

    def fails() -> None:
        with ledger._write() as connection:
            note(connection, "local", "asked_for", "ann", "never", 9.0)
            raise LedgerError("something else went wrong")

    with pytest.raises(LedgerError, match="something else"):
        fails()
    assert list(ledger.export()) == before
    ledger.audit.asked("local", "ann", "afterwards", 9.0)
    assert follow(ledger.export()).problems == ()


def test_writers_side_by_side_make_one_chain(postgres_ledger: Ledger) -> None:
    def write(name: str) -> None:
        for n in range(10):
            postgres_ledger.audit.asked("local", name, f"question {n}", float(n))

    threads = [threading.Thread(target=write, args=(name,)) for name in ("ann", "ben", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = follow(postgres_ledger.export())
    assert (found.rows, found.problems) == (30, ())


def test_the_command_tells_by_its_status(ledger: Ledger, tmp_path: Path) -> None:
    from flows.cli.main import app

    exported = tmp_path / "audit.jsonl"
    exported.write_text("\n".join(lived(ledger)) + "\n")
    run = CliRunner().invoke(app, ["export", "--verify", "--file", str(exported)])
    assert run.exit_code == 0, run.output
    assert "rows are as they were written; note the head elsewhere: sha256:" in run.output
    exported.write_text(exported.read_text().replace("question 2", "question 9"))
    run = CliRunner().invoke(app, ["export", "--verify", "--file", str(exported)])
    assert run.exit_code == 1
    assert run.output.startswith("events ")
    assert "the row was changed after it was written" in run.output


def test_a_file_that_is_no_export_is_refused_with_its_line() -> None:
    with pytest.raises(LedgerError) as caught:
        follow(["{}"])
    assert caught.value.where == "line 1"


def test_an_empty_file_is_not_called_whole(tmp_path: Path) -> None:
    from flows.cli.main import app

    (tmp_path / "audit.jsonl").touch()
    run = CliRunner().invoke(app, ["export", "--verify", "--file", str(tmp_path / "audit.jsonl")])
    assert isinstance(run.exception, SlipwayError)
    assert run.exception.where == str(tmp_path / "audit.jsonl")
