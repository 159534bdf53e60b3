"""What a scheduled refresh compares: everything that a build is made of, and what people approved since."""

from pathlib import Path

import pytest
import yaml
from asked_of import write_asked
from stub_project import stub_project

from benchmarks.tiny_bundle import tiny_bundle
from configs.errors import SlipwayError
from configs.project import Project, load_project
from configs.routing import Variant
from delivery.clients.ledger.review import Queue
from delivery.release.state import Served
from delivery.review.items import AskedAndAnswered, ItemDraft
from tasks.release.outcome import ReleaseOutcome
from tasks.release.refresh import inputs_of, look, note_end, note_look
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
    done = ReleaseOutcome(release_id="", route="tutor", bundle=BASE.digest, outcome="live", reason="all stages passed")
    note_end(project, home, look(project, home), "schedule", 1, done)


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


def said(project: Project, home: Path) -> tuple[str, bool]:
    ledger = open_ledger(project.environment, home)
    found = ledger.refresh_said("local", "tutor")
    ledger.close()
    assert found is not None
    return found.said, found.ended


def test_what_a_refresh_says_of_itself_is_kept_while_it_runs_at_its_end_and_where_it_does_nothing(
    tmp_path: Path, project: Project
) -> None:
    first = look(project, tmp_path)
    note_look(project, tmp_path, first, "schedule", 1)
    assert said(project, tmp_path) == (first.decision.reason, False)
    refused = ReleaseOutcome(release_id="", route="tutor", bundle=BASE.digest, outcome="refused", reason="too wordy")
    told = note_end(project, tmp_path, first, "schedule", 2, refused)
    assert told.reason.startswith("The refresh runs: no refresh of this route has come to its end before. Bundle ")
    assert told.reason.endswith(" was not released: too wordy.")
    assert said(project, tmp_path) == (told.reason, True)
    nothing = look(project, tmp_path)
    note_look(project, tmp_path, nothing, "schedule", 3)
    assert said(project, tmp_path) == (nothing.decision.reason, True)


def test_a_refresh_whose_release_has_not_ended_has_the_same_to_do_again(tmp_path: Path, project: Project) -> None:
    found = look(project, tmp_path)
    halfway = ReleaseOutcome(release_id="r", route="tutor", bundle=BASE.digest, outcome="unfinished", reason="paused")
    note_end(project, tmp_path, found, "schedule", 2, halfway)
    assert look(project, tmp_path).decision.reason == found.decision.reason
    assert not said(project, tmp_path)[1]


def test_another_base_model_makes_it_run(tmp_path: Path, project: Project) -> None:
    refreshed(project, tmp_path)
    (tmp_path / "model" / "config.json").write_text('{"other": 1}')
    assert look(project, tmp_path).decision.reason == "The refresh runs: changed since the last refresh: base model."


def test_requests_that_drift_make_it_run_and_steady_ones_do_not(tmp_path: Path, project: Project) -> None:
    dataset = yaml.safe_load((project.folder / "dataset.yaml").read_text())
    dataset["refresh"] = {"drift": {"min_users": 50, "log": "../log"}}
    (project.folder / "dataset.yaml").write_text(yaml.safe_dump(dataset))
    refreshed(project, tmp_path)  # at second 1
    (tmp_path / "log").mkdir()
    write_asked(tmp_path / "log" / "before.parquet", [f"what is {n} times {n}?" for n in range(60)], at=0.5)
    write_asked(tmp_path / "log" / "same.parquet", [f"what is {n} times {n}?" for n in range(60)], at=2.0)
    steady = look(load_project(project.folder), tmp_path).decision
    assert not steady.runs
    assert "The requests of 60 users before the last refresh and 60 since are not told apart" in steady.reason
    said_now = [f"please explain the french revolution, page {n}, in simple words" for n in range(60)]
    write_asked(tmp_path / "log" / "same.parquet", said_now, at=2.0)
    drifted = look(load_project(project.folder), tmp_path).decision
    assert drifted.runs
    assert "questions have other lengths (median 5 -> 10 words" in drifted.reason
    (tmp_path / "log" / "same.parquet").unlink()
    assert "Too few users asked" in look(load_project(project.folder), tmp_path).decision.reason
