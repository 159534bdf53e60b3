"""A teacher's answers become rows that say where they come from; what fails is kept, and a killed run goes on."""

import json
from pathlib import Path

import pytest
from stub_teacher import StubTeacher
from typer.testing import CliRunner

from configs.dataset import DatasetRecipe
from configs.errors import SlipwayError
from delivery.clients.teacher import TeacherClient
from flows.cli.main import app
from tasks.data.dataset import build_dataset
from tasks.data.documents import Passage
from tasks.data.teach import lessons_of, read_prompts, teach

PASSAGES = [Passage("ice.md", "sha256:1", number, f"Passage {number} says that ice floats.") for number in (1, 2, 3)]


def schooled(said: str) -> str:
    if said.startswith("Here is a passage"):
        number = said.split("Passage ")[1].split()[0]
        return f"Why does it float in {number}{' again' if 'Do not ask again' in said else ''}?"
    return f"Because it is light ({said.split()[-1]})"


def client(teacher: StubTeacher) -> TeacherClient:
    return TeacherClient(teacher.url, "base", "secret", sleep=lambda s: None)


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_passages_become_rows_with_passage_and_teacher_and_questions_are_not_repeated(tmp_path: Path) -> None:
    out = tmp_path / "taught.jsonl"
    with StubTeacher(schooled) as teacher:
        found = teach(lessons_of(PASSAGES, "base", "answers", 2), client(teacher), out, at_once=2)
        assert (found.rows, found.before, found.failed) == (6, 0, 0)
        assert teacher.most_at_once <= 2
        assert set(teacher.keys) == {"Bearer secret"}
    first = next(row for row in rows(out) if row["taught"]["passage"] == 2 and row["taught"]["number"] == 1)
    assert [one["content"] for one in first["messages"]] == ["Why does it float in 2?", "Because it is light (2?)"]
    said = first["taught"]
    assert (said["teacher"], said["document"], said["text"]) == ("base", "ice.md", PASSAGES[1].text)
    assert len({row["messages"][0]["content"] for row in rows(out)}) == 6
    assert not found.failures.exists()


def test_a_hint_is_asked_for_instead_of_the_answer(tmp_path: Path) -> None:
    with StubTeacher(schooled) as teacher:
        teach(lessons_of(PASSAGES[:1], "base", "guided", 1), client(teacher), tmp_path / "out.jsonl", at_once=1)
        assert "Do not give the answer" in teacher.bodies[-1]["messages"][0]["content"]
    assert rows(tmp_path / "out.jsonl")[0]["taught"]["style"] == "guided"


def test_what_fails_is_kept_with_its_reason_and_asked_again_by_the_next_run_alone(tmp_path: Path) -> None:
    out, groups = tmp_path / "out.jsonl", lessons_of(PASSAGES, "base", "answers", 1)

    def partly(said: str) -> str | int | dict:
        if "Passage 2" in said and said.startswith("Here"):
            return 400
        if "Passage 3" in said:
            return {"choices": [{"message": {"content": "cut of"}, "finish_reason": "length"}]}
        return schooled(said)

    with StubTeacher(partly) as teacher:
        found = teach(groups, client(teacher), out, at_once=3)
        assert (found.rows, found.failed) == (1, 2)
        failed = {one["what"]: one["reason"] for one in rows(found.failures)}
        assert "HTTP 400" in failed["ice.md, passage 2, question 1"]
        assert "--max-tokens" in failed["ice.md, passage 3, question 1"]
        teacher.reply, before = schooled, len(teacher.bodies)
        again = teach(groups, client(teacher), out, at_once=3)
        assert (again.rows, again.before, again.failed) == (2, 1, 0)
        assert len(teacher.bodies) - before == 4
        assert not again.failures.exists()


def test_a_line_that_a_kill_has_cut_is_taken_off_and_its_lesson_asked_again(tmp_path: Path) -> None:
    out, groups = tmp_path / "out.jsonl", lessons_of(PASSAGES, "base", "answers", 1)
    with StubTeacher(schooled) as teacher:
        teach(groups, client(teacher), out, at_once=1)
        whole = out.read_bytes()
        out.write_bytes(whole[:-20])
        found = teach(groups, client(teacher), out, at_once=1)
    assert (found.rows, found.before) == (1, 2)
    assert out.read_bytes() == whole
    (tmp_path / "other.jsonl").write_text('{"messages": []}\n')
    with pytest.raises(SlipwayError, match="other lines"), StubTeacher(schooled) as teacher:
        teach(groups, client(teacher), tmp_path / "other.jsonl", at_once=1)
    assert (tmp_path / "other.jsonl").read_text() == '{"messages": []}\n'


def test_a_busy_teacher_is_asked_again_and_one_that_refuses_the_key_ends_it(tmp_path: Path) -> None:
    times = []

    def busy(said: str) -> str | int:
        times.append(1)
        return 503 if len(times) < 4 else schooled(said)

    with StubTeacher(busy) as teacher:
        found = teach(lessons_of(PASSAGES[:1], "base", "answers", 1), client(teacher), tmp_path / "a.jsonl", 1)
        assert (found.rows, found.failed) == (1, 0)
        teacher.reply = lambda said: 401
        with pytest.raises(SlipwayError, match="the teacher refuses: HTTP 401"):
            teach(lessons_of(PASSAGES, "base", "answers", 1), client(teacher), tmp_path / "b.jsonl", 2)


def test_prompts_are_read_and_every_line_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Why?\n\nHow?\n")
    assert [one.messages[0]["content"] for (one,) in read_prompts(tmp_path / "p.txt", "base")] == ["Why?", "How?"]
    lines = ['{"prompt": "Why?"}', '{"answer": 1}', "no JSON", '{"messages": [{"role": "assistant", "content": "x"}]}']
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    with pytest.raises(SlipwayError, match=r"3 prompt\(s\)") as told:
        read_prompts(tmp_path / "p.jsonl", "base")
    assert "line 4" in str(told.value)
    assert "ends with the user's" in str(told.value)


def test_the_command_writes_rows_that_a_dataset_reads_and_says_what_failed(
    tmp_path: Path, tokenizer_folder: Path
) -> None:
    prompts, out = tmp_path / "p.txt", tmp_path / "rows.jsonl"
    prompts.write_text("".join(f"Why is number {number} odd?\n" for number in range(9)) + "Be silent\n")
    with StubTeacher(lambda said: " " if said == "Be silent" else f"Think of {said}") as teacher:
        words = ["--teacher", teacher.url, "--model", "base", "--out", str(out), "--prompts", str(prompts)]
        done = CliRunner().invoke(app, ["dataset", "teach", *words])
    assert done.exit_code == 1, done.output
    assert "9 rows written to" in done.stdout
    assert "1 failed, with their reasons in" in done.stdout
    recipe = DatasetRecipe.model_validate(
        {"name": "taught", "sources": [{"path": str(out)}], "split": {"holdout_prompts": 1}}
    )
    version = build_dataset(recipe, Path(), tokenizer_folder, "Be brief.", tmp_path / "home")
    assert version.manifest.kept == 9
    assert version.manifest.fields == {"taught": 9}
    with pytest.raises(SlipwayError, match="exactly one of --documents, --prompts"):
        CliRunner().invoke(app, ["dataset", "teach", *words[:6]], catch_exceptions=False)
    with pytest.raises(SlipwayError, match="prompts are asked as they are"):
        CliRunner().invoke(app, ["dataset", "teach", *words, "--style", "guided"], catch_exceptions=False)
