"""`slipway dataset teach`: documents and prompts become rows by a teacher's answers."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import SlipwayError
from flows.cli.options import narrate


class TaughtStyle(StrEnum):
    """How the teacher answers questions on a passage."""

    answers = "answers"
    guided = "guided"


def teach(
    teacher: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible API, with its /v1.")],
    model: Annotated[str, typer.Option(help="The teacher's name there.")],
    out: Annotated[Path, typer.Option(help="JSON lines; what is there already is not asked again.")],
    documents: Annotated[
        Path | None, typer.Option(help="A document, or a folder of them: Markdown, text, HTML, PDF.", exists=True)
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Instead: a .txt file, one prompt a line, or .jsonl with prompt or messages.")
    ] = None,
    style: Annotated[
        TaughtStyle, typer.Option(help="guided: a hint in the place of the answer.")
    ] = TaughtStyle.answers,
    per_passage: Annotated[int, typer.Option(min=1, max=20, help="Questions on each passage.")] = 1,
    passage_words: Annotated[int, typer.Option(min=20, max=5000, help="Of one passage, at most.")] = 250,
    at_once: Annotated[int, typer.Option(min=1, max=256, help="Passages or prompts that are asked at once.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one reply of the teacher.")] = 512,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0: always the most likely word.")] = 0.7,
    api_key_env: Annotated[
        str | None, typer.Option(help="The environment variable that holds the key; by default no key is sent.")
    ] = None,
) -> None:
    """Ask a teacher about documents or prompts, and write its answers as rows. Exit status 1: some have failed.

    A dataset reads the file as a source; `slipway review collect --rows FILE` gives it to people first.
    """
    from delivery.clients.teacher import TeacherClient
    from tasks.data import teach as lessons
    from tasks.data.documents import read_passages

    if (documents is None) == (prompts is None):
        raise SlipwayError("exactly one of --documents, --prompts is needed", cure="--documents FOLDER")
    if prompts is not None and style is TaughtStyle.guided:
        raise SlipwayError("--style guided is for passages; prompts are asked as they are", cure="leave --style out")
    if api_key_env is not None and not os.environ.get(api_key_env):
        raise SlipwayError(f"the environment has no {api_key_env}", where="--api-key-env", cure="set it to the key")
    if documents is not None:
        groups = lessons.lessons_of(read_passages(documents, passage_words), model, style.value, per_passage)
    else:
        groups = lessons.read_prompts(Path(str(prompts)), model)
    key = os.environ.get(api_key_env or "", "")
    client = TeacherClient(teacher, model, key, max_tokens=max_tokens, temperature=temperature)
    try:
        found = lessons.teach(groups, client, out, at_once, narrate)
    finally:
        client.close()
    typer.echo(found.render())
    raise typer.Exit(1 if found.failed else 0)
