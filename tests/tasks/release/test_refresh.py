"""What a scheduled refresh compares: everything that a build is made of, and what people approved since."""

from pathlib import Path

import pytest
from stub_project import stub_project

from benchmarks.tiny_bundle import tiny_bundle
from configs.errors import SlipwayError
from configs.project import Project, load_project
from configs.routing import Variant
from delivery.clients.ledger.review import Queue
from delivery.release.state import Served
from delivery.review.items import AskedAndAnswered, ItemDraft
from tasks.release.refresh import inputs_of, look, note
from tasks.release.site import open_ledger
from tasks.review.desk import approve, open_desk, take

BASE = tiny_bundle("a long prompt")
QUEUE = Queue(environment="local", route="tutor")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    row = '{"messages": [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "2"}]}\n'
    (tmp_path / "rows.jsonl").write_text(row)
    recipe = {
        "name": "rows",
        "sources": [{"path": "../rows.jsonl"}, {"review": "conversations"}],
        "split": {"holdout_prompts": 1},
        "filters": {"max_row_tokens": 256},
        "review": {"refresh_at": 2},
    }
    made = stub_project(tmp_path, dataset=recipe)
    variant = Variant(model=BASE.served_name, upstreams=("http://vllm",), system_prompt=BASE.system_prompt)
    ledger = open_ledger(made.environment, tmp_path)
    ledger.set_base("local", "tutor", Served(bundle=BASE.digest, name="base", variant=variant), BASE, "ann", 0)
    ledger.close()
    return made


def refreshed(project: Project, home: Path) -> None:
    note(project, home, look(project, home).inputs, "schedule", 1)


def test_the_first_one_runs_and_the_second_one_does_nothing_and_leaves_live_what_is(
    tmp_path: Path, project: Project
) -> None:
    assert look(project, tmp_path).decision.runs
    refreshed(project, tmp_path)
    found = look(project, tmp_path)
    assert not found.decision.runs
    assert (found.nothing.outcome, found.nothing.bundle) == ("live", BASE.digest)
    assert look(project, tmp_path, "ann").decision.reason == "The refresh runs: ann asked for it."


def test_other_rows_and_other_settings_make_it_run(tmp_path: Path, project: Project) -> None:
    refreshed(project, tmp_path)
    (tmp_path / "rows.jsonl").write_text((tmp_path / "rows.jsonl").read_text() * 2)
    assert look(project, tmp_path).decision.reason == "The refresh runs: changed since the last refresh: rows."
    refreshed(project, tmp_path)
    prompts = (Path("configs/tutor/prompts.yaml")).read_text().replace("max_tokens: ", "max_tokens: 1")
    (project.folder / "prompts.yaml").write_text(prompts)
    reason = look(load_project(project.folder), tmp_path).decision.reason
    assert reason == "The refresh runs: changed since the last refresh: prompts.yaml."
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "erasures.jsonl").write_text("{}\n")
    assert "erasures" in look(project, tmp_path).decision.reason


def test_a_filled_review_queue_makes_it_run_and_so_does_an_item_that_is_erased(
    tmp_path: Path, project: Project
) -> None:
    refreshed(project, tmp_path)
    with open_desk(project, tmp_path) as desk:
        asked = [AskedAndAnswered(messages=({"role": "user", "content": f"{n}?"},), answer="so") for n in range(2)]
        items = [ItemDraft(origin="hand", why="", asked=one, at=1) for one in asked]
        desk.ledger.review.add(QUEUE, items, "ann", 1)
        for number in range(2):
            assert not look(project, tmp_path).decision.runs, number
            one = take(desk, "ann", 1)
            assert one is not None
            approve(desk, "ann", one.id, "fine", 1)
        assert "2 items were approved" in look(project, tmp_path).decision.reason
        desk.ledger.review.mark_read(QUEUE, [one.id for one in items], "v1")
        refreshed(project, tmp_path)
        assert not look(project, tmp_path).decision.runs
        desk.ledger.review.erase(QUEUE, "ann", "asked", 2, ids=[items[0].id])
    assert "erased review items" in look(project, tmp_path).decision.reason


def test_a_source_that_is_missing_is_told(tmp_path: Path, project: Project) -> None:
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(SlipwayError, match="does not exist"):
        inputs_of(project, tmp_path)
