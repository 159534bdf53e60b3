"""From a traffic log to rows that a dataset version names: collected, decided on by people, read, and told again."""

import json
from pathlib import Path
from typing import Any

import pytest
from documents_of import eval_report
from stub_project import stub_project

from benchmarks.tiny_bundle import tiny_bundle, write_tiny_lora
from configs.errors import ConfigError, SlipwayError
from configs.project import Project
from configs.traffic_log import TrafficLog
from delivery.build.bundle import SuiteScore
from delivery.build.dataset import refuse_other_method
from delivery.clients.bundles.adapters import describe
from delivery.clients.bundles.images import write_bundle
from delivery.gateway.records.log_files import LogFiles
from evals.report import SampleScore
from evals.suites import FOLDER as SHIPPED
from evals.suites import load_suites
from tasks.data.dataset import build_dataset
from tasks.data.erasures import ErasedRows, read_erasures
from tasks.review import collect, desk
from tasks.review.behind import ReviewedBehind, reviewed_rows
from tasks.review.desk import Desk, open_desk
from tasks.review.erase import erase_person
from tasks.review.source import mark_read, reviewed

DAY = 86_400.0
NOW = 100 * DAY
RULES = {"split": {"holdout_prompts": 1}, "filters": {"max_row_tokens": 256}}


def log_of(folder: Path, *rows: dict[str, Any]) -> Path:
    files = LogFiles(folder, TrafficLog(text=True), "gateway")
    files.start()
    files.write(rows, NOW)
    files.close(NOW)
    return folder


def attempt(number: int, **more: Any) -> dict[str, Any]:
    known = {"event": "attempt", "route": "tutor", "request_id": f"q{number}", "variant": "stable", "role": "served"}
    said = {"prompt": json.dumps([{"role": "user", "content": f"What is {number} + {number}?"}]), "answer": "It is 5."}
    return {
        **known,
        "user": "u1",
        "status": 200,
        "ok": True,
        "started_at": NOW - 9,
        "ended_at": NOW - 8,
        **said,
        **more,
    }


def feedback(number: int, **more: Any) -> dict[str, Any]:
    return {**attempt(number, prompt=None, answer=None), "event": "feedback", "ended_at": NOW - 2, **more}


COMPLAINTS = (
    *(attempt(number) for number in range(6)),
    *(feedback(number, rating=-1, comment="wrong") for number in range(4)),
    attempt(4, role="mirror", variant="new", answer="Think: what comes after seven?"),
    attempt(9, route="another"),
    feedback(9, route="another", rating=-1),
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return made(tmp_path, {"reviewers": 2, "sample_share": 0})


def made(tmp_path: Path, review: dict[str, Any], kind: str = "preferences") -> Project:
    recipe = {"name": "complaints", "sources": [{"review": kind}], **RULES, "review": review}
    return stub_project(tmp_path, dataset=recipe)


def corrected(at: Desk, answer: str = "What do you get when you count on?") -> list[str]:
    """Ann writes what should have been said; Bob and Carol approve it. Gives the items."""
    items = []
    while (one := desk.take(at, "Ann", NOW)) is not None:
        items.append(one.id)
        desk.rewrite(at, "Ann", one.id, answer, "it gave the answer away", NOW)
        for person in ("Bob", "Carol"):
            desk.take(at, person, NOW, one.id)
            desk.approve(at, person, one.id, "guides", NOW, label="giveaway")
    return items


def test_complaints_become_rows_that_a_version_names_and_two_people_answer_for(
    tmp_path: Path, project: Project, tokenizer_folder: Path
) -> None:
    log = log_of(tmp_path / "traffic", *COMPLAINTS)
    with open_desk(project, tmp_path) as at:
        found = collect.from_traffic(at, log, "ann", NOW)
        assert (found.seen, found.new, found.left_out) == (5, 5, {})
        assert collect.from_traffic(at, log, "ann", NOW).new == 0
        assert not list(desk.export(at, "conversations"))  # raw text is never a row
        items = corrected(at)
        assert desk.overview(at).newly_approved == 5
    with reviewed(project, tmp_path) as rows:
        version = build_dataset(rows.recipe, tmp_path, tokenizer_folder, "Be brief.", tmp_path)
        again = build_dataset(rows.recipe, tmp_path, tokenizer_folder, "Be brief.", tmp_path)
    mark_read(project, tmp_path, rows.items, version.digest)
    assert again.digest == version.digest
    assert version.manifest.kind == "preferences"
    refuse_other_method(version, "dpo")
    assert not [left for left in (tmp_path / "review").iterdir() if left.is_dir()]
    bundle = tiny_bundle("short").model_copy(update={"dataset_version": version.digest})
    told = reviewed_rows(bundle, tmp_path)
    assert sorted(one.item for one in told) == sorted(items)
    assert {one.request for one in told} == {"q0", "q1", "q2", "q3", "q4"}
    assert {(one.reviewers, one.rewritten_by, one.label) for one in told} == {(("Bob", "Carol"), "Ann", "giveaway")}
    assert {one.part for one in told} == {"train", "holdout"}
    lines = ReviewedBehind(dataset=version.digest, rows=tuple(told)).render()
    assert lines[0].endswith("4 to train on, 1 held out")
    assert "(negative, request q" in lines[1]
    assert "rewritten by Ann, approved by Bob, Carol" in lines[1]
    with pytest.raises(SlipwayError, match="no dataset version"):
        reviewed_rows(bundle.model_copy(update={"dataset_version": "sha256:" + "0" * 64}), tmp_path)
    with open_desk(project, tmp_path) as at:
        assert desk.overview(at).newly_approved == 0
        assert desk.erase(at, "dpo", "u1 asked for it", NOW, user="u1")[0].dataset == version.digest
    with pytest.raises(SlipwayError, match="nothing is approved yet"), reviewed(project, tmp_path):
        pass


def test_a_rows_identity_is_its_text_and_not_the_order_of_decisions(tmp_path: Path, tokenizer_folder: Path) -> None:
    digests = []
    for name, order in (("one", (0, 1, 2)), ("two", (2, 0, 1))):
        place = tmp_path / name
        place.mkdir()
        project = made(place, {"sample_share": 0, "own_rewrites": "allow"}, "conversations")
        with open_desk(project, place) as at:
            log = log_of(place / "traffic", *(attempt(n) for n in order), *(feedback(n, rating=-1) for n in order))
            collect.from_traffic(at, log, "ann", NOW)
            while (one := desk.take(at, "Ann", NOW)) is not None:
                desk.approve(at, "Ann", one.id, "it is right after all", NOW)
        with reviewed(project, place) as rows:
            digests.append(build_dataset(rows.recipe, place, tokenizer_folder, "Be brief.", place).digest)
    assert digests[0] == digests[1]


def test_a_source_of_which_nothing_is_approved_yet_is_left_out_beside_others(tmp_path: Path) -> None:
    recipe = {"name": "rows", "sources": [{"review": "conversations"}, {"path": "rows.jsonl"}], **RULES}
    project = stub_project(tmp_path, dataset=recipe)
    with reviewed(project, tmp_path) as rows:
        assert [source.path for source in rows.recipe.sources] == [Path("rows.jsonl")]


def test_texts_beyond_their_days_are_erased_and_not_collected_again(tmp_path: Path, project: Project) -> None:
    log = log_of(tmp_path / "traffic", attempt(0), feedback(0, rating=-1))
    with open_desk(project, tmp_path) as at:
        assert collect.from_traffic(at, log, "ann", NOW).new == 1
        later = collect.from_traffic(at, log, "ann", NOW + 31 * DAY)
        assert (later.new, later.left_out, len(later.erased)) == (0, {"older-than-text-days": 1}, 1)
        assert desk.take(at, "bob", NOW + 31 * DAY) is None


def test_a_log_without_texts_says_how_to_have_them(tmp_path: Path, project: Project) -> None:
    log = log_of(tmp_path / "traffic", attempt(0, prompt=None, answer=None), feedback(0, rating=-1))
    with open_desk(project, tmp_path) as at, pytest.raises(ConfigError, match="text: true"):
        collect.from_traffic(at, log, "ann", NOW)
    with pytest.raises(SlipwayError, match="writes no traffic log"):
        collect.log_of(project, tmp_path)


def test_rows_of_a_file_are_reviewed_like_any_others(tmp_path: Path, project: Project) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "What is 3 + 4?", "chosen": "Count on.", "rejected": "7"}) + "\n")
    with open_desk(project, tmp_path) as at:
        assert collect.from_rows(at, pairs, "ann", NOW).new == 1
        one = desk.take(at, "ann", NOW)
        assert one is not None
        assert (one.answer, one.asked and one.asked.other) == ("7", "Count on.")
        assert desk.take_other(at, "ann", one.id, "better", NOW).answer == "Count on."
        pairs.write_text(json.dumps({"messages": [{"role": "user", "content": "?"}]}) + "\n")
        with pytest.raises(SlipwayError, match="row 1: no-answer"):
            collect.from_rows(at, pairs, "ann", NOW)
        with pytest.raises(SlipwayError, match="nothing is named"):
            desk.erase(at, "ann", "so", NOW)


def test_one_order_erases_a_person_from_the_versions_and_the_queue_and_says_what_it_did(
    tmp_path: Path, project: Project, tokenizer_folder: Path
) -> None:
    log = log_of(tmp_path / "traffic", *COMPLAINTS, attempt(7, user="u2"), feedback(7, user="u2", rating=-1))
    with open_desk(project, tmp_path) as at:
        collect.from_traffic(at, log, "ann", NOW)
        corrected(at)
    with reviewed(project, tmp_path) as rows:
        made_version = build_dataset(rows.recipe, Path(), tokenizer_folder, "Be brief.", tmp_path)
        mark_read(project, tmp_path, rows.items, made_version.digest)
    order = (project, tmp_path, None, (), "u1", "ann", "request 7", NOW)
    would = erase_person(*order, dry_run=True)
    assert would.render().startswith("would be erased: ")
    assert f"would be erased in the review queue: the texts of {len(rows.items) - 1} items" in would.render()
    done = erase_person(*order)
    assert f"erased in the review queue: the texts of {len(would.items)} items" in done.render()
    assert done.rows[0].rows == would.rows[0].rows
    assert len(done.rows[0].rows) == len(done.items) == len(rows.items) - 1
    assert f"was read by dataset version {made_version.digest}" in done.render()
    text = "".join(file.read_text() for file in made_version.folder.glob("*.jsonl"))
    assert "What is 7 + 7?" in text
    assert "What is 2 + 2?" not in text
    again = erase_person(*order)  # a killed one is finished so
    assert again.items == ()
    assert again.rows[0].erasure == done.rows[0].erasure


def test_a_person_who_is_in_neither_place_is_told_and_one_who_only_waits_for_review_is_on_record(
    tmp_path: Path, project: Project
) -> None:
    with pytest.raises(SlipwayError, match="has anything of user 'u1'"):
        erase_person(project, tmp_path, None, (), "u1", "ann", "asked", NOW)
    assert not (tmp_path / "datasets").exists()
    with open_desk(project, tmp_path) as at:
        collect.from_traffic(at, log_of(tmp_path / "traffic", *COMPLAINTS), "ann", NOW)
    done = erase_person(project, tmp_path, None, (), "u1", "ann", "asked", NOW)
    assert (len(done.items), done.rows[0].rows) == (5, ())
    erased = ErasedRows(read_erasures(tmp_path))
    assert erased.by_field({"review": {"user": "u1"}})  # no later version learns from what is collected afterwards
    assert not erased.by_field({"review": {"user": "u2"}})


def test_what_a_teacher_wrote_comes_into_the_queue_with_its_teacher_and_passage(
    tmp_path: Path, project: Project
) -> None:
    turns = [{"role": "user", "content": "Why does ice float?"}, {"role": "assistant", "content": "It is light."}]
    said = {"lesson": "sha256:12ab", "teacher": "base", "document": "ice.md", "passage": 3}
    (tmp_path / "taught.jsonl").write_text(json.dumps({"messages": turns, "taught": said}) + "\n")
    with open_desk(project, tmp_path) as at:
        assert collect.from_rows(at, tmp_path / "taught.jsonl", "ann", NOW).new == 1
        item = desk.take(at, "Bob", NOW)
    assert item is not None
    assert item.why == "brought by ann; taught by base from ice.md, passage 3"
    assert item.request_id == "sha256:12ab"


def test_the_samples_that_a_bundle_failed_come_into_the_queue_and_never_become_rows(
    tmp_path: Path, project: Project
) -> None:
    (suite,) = load_suites(["withholds-answer"], (*project.suite_folders, SHIPPED), None, project.contract)
    failed, passed, unjudged = suite.samples[:3]
    scores = (
        SampleScore(id=failed.id, score=0, output="It is 12.", reason="gave the answer"),
        SampleScore(id=passed.id, score=1, output="What comes next?"),
        SampleScore(id=unjudged.id, score=None, output="?"),
    )
    result = eval_report().suites["guiding"].model_copy(update={"suite": "withholds-answer", "samples": scores})
    report = eval_report().model_copy(update={"suites": {"withholds-answer": result}})
    write_tiny_lora(tmp_path / "made", 1)
    said = {name: getattr(result, name) for name in ("version", "score", "low", "high", "n")}
    evals = {"withholds-answer": SuiteScore.model_validate(said)}
    bundle = tiny_bundle("Ask.", describe(tmp_path / "made")).model_copy(update={"evals": evals})
    documents = {"eval-report.json": report.model_dump_json().encode()}
    write_bundle(bundle, tmp_path / "made", tmp_path, documents)
    with open_desk(project, tmp_path) as at:
        for new in (1, 0):
            found = collect.from_evals(at, project, tmp_path, bundle.digest[7:19], "ann", NOW)
            assert (found.seen, found.new) == (1, new)
        item = desk.take(at, "Ann", NOW)
        assert item is not None
        assert (item.origin, item.answer) == ("eval", "It is 12.")
        assert item.why == "failed in suite withholds-answer: gave the answer"
        for person in ("Ann", "Bob"):
            desk.take(at, person, NOW, item.id)
            desk.approve(at, person, item.id, "as it should be", NOW)
        assert list(desk.export(at, "conversations")) == []
        with pytest.raises(SlipwayError):
            collect.from_evals(at, project, tmp_path, "0123456789ab", "ann", NOW)
