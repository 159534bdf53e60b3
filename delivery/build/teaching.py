"""What a teacher is asked so that its answers become rows, and what such a row says of where it comes from."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from configs.canonical import digest_of
from configs.strict import Strict

Style = Literal["answers", "guided"]
FIELD = "taught"  # of a row: its teacher, and the passage or prompt that it is made of
ASK = (
    "Here is a passage:\n\n{passage}\n\nWrite one question that a reader of this passage could ask and that it answers."
)
OTHER = " Do not ask again: {asked}"
ONLY = " Write the question alone."
ANSWER: dict[Style, str] = {
    "answers": "Answer the question from this passage alone, in a few sentences.\n\n{passage}\n\nQuestion: {question}",
    "guided": (
        "A learner asks a question that this passage answers. Do not give the answer: write one short hint or question "
        "that leads the learner to it.\n\n{passage}\n\nQuestion: {question}"
    ),
}
VERSION = 1  # of the words above


class Lesson(Strict):
    """One thing to ask the teacher: a passage's `number`-th question, or a prompt of one's own."""

    teacher: str  # the model's name
    style: Style = "answers"
    document: str = ""
    document_digest: str = ""
    passage: int = 0  # its place in the document, from 1; 0: a prompt
    text: str = ""  # the passage
    number: int = 0
    messages: tuple[dict[str, Any], ...] = Field(())  # the prompt, up to the question

    @property
    def id(self) -> str:
        """A digest of all that decides what is asked: what was asked before is not asked again."""
        return digest_of({"version": VERSION, **self.model_dump(mode="json")})

    @property
    def name(self) -> str:
        """For people."""
        return (
            f"{self.document}, passage {self.passage}, question {self.number}"
            if self.passage
            else f"prompt {self.number}"
        )


def to_ask(lesson: Lesson, asked: Sequence[str]) -> list[dict[str, Any]]:
    """How the teacher is asked for a question on a passage; `asked` are those that it has already."""
    other = OTHER.format(asked=" / ".join(asked)) if asked else ""
    return [{"role": "user", "content": ASK.format(passage=lesson.text) + other + ONLY}]


def to_answer(lesson: Lesson, question: str) -> list[dict[str, Any]]:
    """How the teacher is asked for the answer."""
    if not lesson.passage:
        return list(lesson.messages)
    return [{"role": "user", "content": ANSWER[lesson.style].format(passage=lesson.text, question=question)}]


def row_of(lesson: Lesson, question: str, answer: str) -> dict[str, Any]:
    """A row as the reader `messages` takes it. The passage stands beside it, and is not trained on."""
    asked: list[Mapping[str, Any]] = list(lesson.messages) or [{"role": "user", "content": question}]
    said = lesson.model_dump(mode="json", exclude={"messages"} | ({"style"} if not lesson.passage else set()))
    came = {name: value for name, value in said.items() if value not in ("", 0)}
    return {"messages": [*asked, {"role": "assistant", "content": answer}], FIELD: {"lesson": lesson.id, **came}}
