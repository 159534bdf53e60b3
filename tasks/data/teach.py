"""A teacher's answers become rows: one line a row, written as it comes, so that a killed run goes on where it was."""

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from configs.errors import Problem, SlipwayError
from delivery.build.teaching import FIELD, Lesson, Style, row_of, to_answer, to_ask
from delivery.clients.teacher import NoReplyError, TeacherClient
from delivery.progress import Progress, silent
from tasks.data.documents import Passage


@dataclass(frozen=True)
class Taught:
    """What came of it. `before` rows were there already; `failed` lie with their reasons in `failures`."""

    rows: int
    before: int
    failed: int
    out: Path
    failures: Path

    def render(self) -> str:
        """For people."""
        text = f"{self.rows} rows written to {self.out}, {self.before} were there before"
        if not self.failed:
            return text
        return (
            f"{text}\n{self.failed} failed, with their reasons in {self.failures}; the same command asks for them again"
        )


def lessons_of(passages: Iterable[Passage], teacher: str, style: Style, per_passage: int) -> list[list[Lesson]]:
    """Of each passage its lessons, which are asked one after the other, so that no question comes twice."""
    return [
        [
            Lesson(
                teacher=teacher,
                style=style,
                document=one.document,
                document_digest=one.digest,
                passage=one.number,
                text=one.text,
                number=number,
            )
            for number in range(1, per_passage + 1)
        ]
        for one in passages
    ]


def read_prompts(file: Path, teacher: str) -> list[list[Lesson]]:
    """Prompts of one's own: a text file with one a line, or JSON lines with `prompt` or `messages`.

    Raises SlipwayError, with every line that is none.
    """
    lessons: list[list[Lesson]] = []
    problems: list[Problem] = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SlipwayError(f"the prompts cannot be read: {error}", where=f"--prompts {file}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            messages = _prompt(json.loads(line)) if file.suffix == ".jsonl" else _prompt({"prompt": line.strip()})
        except ValueError as error:
            problems.append(Problem(f"{file.name}: line {number}", str(error)))
        else:
            lessons.append([Lesson(teacher=teacher, number=number, messages=messages)])
    if problems or not lessons:
        what = f"{len(problems)} prompt(s) of {file} cannot be asked" if problems else f"{file} holds no prompt"
        cure = (
            'a line is {"prompt": TEXT} or {"messages": [...]} that ends with the user; in a .txt file it is the prompt'
        )
        raise SlipwayError(what, problems=problems[:20], cure=cure)
    return lessons


def teach(
    groups: Sequence[Sequence[Lesson]], teacher: TeacherClient, out: Path, at_once: int, on_progress: Progress = silent
) -> Taught:
    """Asks for what is not in `out` yet, at most `at_once` groups of lessons at a time; those of a group in turn.

    Raises SlipwayError for an `out` that is no such file, and where the teacher refuses everybody; what was written
    until then stays.
    """
    failures = out.with_name(f"{out.name}.failed.jsonl")
    total = sum(map(len, groups))
    out.parent.mkdir(parents=True, exist_ok=True)
    with _whole_lines(out) as (known, file), failures.open("w", encoding="utf-8") as failed:
        book = _Book(file, failed, known, total, on_progress)
        pool = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="teacher")
        try:
            for done in as_completed([pool.submit(_taught, group, teacher, book) for group in groups]):
                done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if not book.failed:
        failures.unlink()
    return Taught(book.rows, book.before, book.failed, out, failures)


@dataclass
class _Book:
    """Where rows and failures are written, by several threads."""

    out: TextIO
    failures: TextIO
    known: dict[str, dict[str, Any]]  # lesson -> row
    total: int
    on_progress: Progress
    rows: int = 0
    before: int = 0
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, lesson: Lesson, row: dict[str, Any] | None, reason: str = "", *, is_known: bool = False) -> None:
        with self.lock:
            if is_known:
                self.before += 1
            elif row is not None:
                self.rows += 1
                self.out.write(json.dumps(row, ensure_ascii=False) + "\n")
                self.out.flush()
            else:
                self.failed += 1
                said = {"lesson": lesson.id, "what": lesson.name, "reason": reason}
                self.failures.write(json.dumps({**said, **lesson.model_dump(mode="json")}, ensure_ascii=False) + "\n")
                self.failures.flush()
            done = self.rows + self.before + self.failed
            self.on_progress(done, self.total, f"lessons, {self.failed} of them failed")


def _taught(group: Sequence[Lesson], teacher: TeacherClient, book: _Book) -> None:
    asked: list[str] = []
    for lesson in group:
        row = book.known.get(lesson.id)
        if row is not None:
            book.note(lesson, None, is_known=True)
            asked.append(row["messages"][-2]["content"])
            continue
        try:
            question = teacher.reply(to_ask(lesson, asked)) if lesson.passage else ""
            if question and question in asked:
                raise NoReplyError(f"the teacher asked the same again: {question!r:.200}")
            asked += [question] if question else []
            book.note(lesson, row_of(lesson, question, teacher.reply(to_answer(lesson, question))))
        except NoReplyError as error:
            book.note(lesson, None, error.what)


@contextmanager
def _whole_lines(out: Path) -> Iterator[tuple[dict[str, dict[str, Any]], TextIO]]:
    """The rows that are there, by lesson, and the file to write on; a line that a kill has cut is taken off."""
    content = out.read_bytes() if out.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    known = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            known[row[FIELD]["lesson"]] = row
        except (ValueError, KeyError, TypeError):
            cure = "name another file with --out; only a file that this command wrote is gone on with"
            raise SlipwayError(
                "the file holds other lines than this command writes", where=f"{out}: {number}", cure=cure
            ) from None
    with out.open("r+" if out.exists() else "w", encoding="utf-8") as file:
        file.truncate(len(whole))
        file.seek(0, 2)
        yield known, file


def _prompt(line: Any) -> tuple[dict[str, Any], ...]:
    if isinstance(line, dict) and isinstance(line.get("prompt"), str) and line["prompt"].strip():
        return ({"role": "user", "content": line["prompt"]},)
    messages: Any = line.get("messages", line.get("prompt")) if isinstance(line, dict) else None
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise ValueError("it has neither a prompt in text nor messages in text")
    if messages[-1]["role"] != "user":
        raise ValueError(f"its last message is the {messages[-1]['role']}'s, and a prompt ends with the user's")
    return tuple({"role": one["role"], "content": one["content"]} for one in messages)


def _is_message(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("content"), str) and isinstance(one.get("role"), str)
