"""`slipway people` as it is typed: who is added, what is refused, and that no secret is shown again."""

from pathlib import Path

from typer.testing import CliRunner

from configs.errors import ConfigError
from delivery.clients.people import People, people_file
from flows.cli.control import commands

PASSWORD = "correct horse battery"


def people(home: Path, *words: str, typed: str = "") -> tuple[str, BaseException | None]:
    done = CliRunner().invoke(commands, ["people", *words, "--home", str(home)], input=typed)
    return done.output, done.exception


def test_somebody_is_added_from_standard_input_and_listed_without_a_secret(tmp_path: Path) -> None:
    people(tmp_path, "add", "anna", "--role", "approver", "--role", "operator", typed=f"{PASSWORD}\n")
    token, _ = people(tmp_path, "token", "ci", "--role", "viewer")
    people(tmp_path, "add", "pia", "--role", "viewer", "--proxy")
    known = People(people_file(tmp_path))
    assert known.with_password("anna", PASSWORD) is not None
    assert known.with_token(token.strip()) is not None
    listed, _ = people(tmp_path, "list")
    assert [line.split()[0] for line in listed.splitlines()] == ["anna", "ci", "pia"]
    assert [line.split()[-1] for line in listed.splitlines()] == ["password", "token", "proxy"]
    assert token.strip() not in listed


def test_a_role_that_does_not_exist_and_a_name_that_is_not_known_are_refused(tmp_path: Path) -> None:
    _, wrong = people(tmp_path, "add", "anna", "--role", "king", "--proxy")
    assert isinstance(wrong, ConfigError)
    assert wrong.cure == "choose of viewer, reviewer, operator, approver"
    _, gone = people(tmp_path, "remove", "anna")
    assert isinstance(gone, ConfigError)
