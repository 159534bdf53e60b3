"""The file of people: hashed secrets, roles, and nothing that is lost or readable to others."""

import json
from pathlib import Path

import pytest

from configs.errors import ConfigError
from delivery.clients.people import People, people_file

PASSWORD = "correct horse battery"


@pytest.fixture
def people(tmp_path: Path) -> People:
    return People(people_file(tmp_path), cost=16)


def test_somebody_is_known_by_name_and_password_with_their_roles(people: People) -> None:
    people.put("anna", ("operator", "approver"), PASSWORD)
    found = people.with_password("anna", PASSWORD)
    assert found is not None
    assert (found.name, found.roles) == ("anna", {"operator", "approver"})


@pytest.mark.parametrize(("name", "password"), [("anna", "wrong horse battery"), ("bert", PASSWORD), ("anna", "")])
def test_a_wrong_name_or_password_is_nobody(people: People, name: str, password: str) -> None:
    people.put("anna", ("viewer",), PASSWORD)
    assert people.with_password(name, password) is None


def test_nobodys_password_opens_nothing_for_a_name_that_is_not_there_or_has_none(people: People) -> None:
    people.put("pia", ("viewer",), None)
    assert people.with_password("pia", "") is None
    assert people.person("pia") is not None


def test_neither_password_nor_token_is_in_the_file_and_only_its_owner_reads_it(people: People) -> None:
    people.put("anna", ("viewer",), PASSWORD)
    token = people.put_token("ci", ("viewer",))
    text = people.file.read_text()
    assert PASSWORD not in text
    assert token not in text
    assert people.file.stat().st_mode & 0o077 == 0


def test_a_password_is_as_slow_to_try_as_memory_allows(tmp_path: Path) -> None:
    people = People(people_file(tmp_path))
    people.put("anna", ("viewer",), PASSWORD)
    kept = people.names()["anna"].password
    assert kept is not None
    assert 128 * kept.cost * kept.block_size >= 32 * 2**20
    assert people.with_password("anna", PASSWORD) is not None


def test_two_people_with_one_password_have_different_hashes(people: People) -> None:
    for name in ("anna", "bert"):
        people.put(name, ("viewer",), PASSWORD)
    kept = json.loads(people.file.read_text())["people"]
    assert kept["anna"]["password"]["hash"] != kept["bert"]["password"]["hash"]


def test_a_program_has_a_token_and_a_new_one_ends_the_old_one(people: People) -> None:
    old = people.put_token("ci", ("operator",))
    new = people.put_token("ci", ("viewer",))
    found = people.with_token(new)
    assert people.with_token(old) is None
    assert found is not None
    assert (found.name, found.roles) == ("ci", {"viewer"})


def test_a_token_is_no_password_and_takes_no_persons_name(people: People) -> None:
    token = people.put_token("ci", ("viewer",))
    assert people.with_password("ci", token) is None
    people.put("anna", ("viewer",), PASSWORD)
    with pytest.raises(ConfigError, match="anna is a person"):
        people.put_token("anna", ("viewer",))


def test_what_another_process_changes_is_seen_at_once(people: People) -> None:
    people.put("anna", ("viewer",), PASSWORD)
    assert people.person("anna") is not None
    People(people.file).remove("anna")
    assert people.person("anna") is None


@pytest.mark.parametrize("name", ["", "a b", "<b>", "x" * 101, "-x"])
def test_a_name_that_could_be_misread_is_refused(people: People, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a name"):
        people.put(name, ("viewer",), PASSWORD)


def test_a_short_password_is_refused_and_nothing_is_kept_of_it(people: People) -> None:
    with pytest.raises(ConfigError, match="has 5 characters"):
        people.put("anna", ("viewer",), "short")
    assert people.names() == {}


def test_a_damaged_file_lets_nobody_in_and_says_where_it_lies(people: People) -> None:
    people.put("anna", ("viewer",), PASSWORD)
    people.file.write_text('{"people": {"anna": {"roles": ["king"]}}}')
    with pytest.raises(ConfigError, match="cannot be read"):
        people.with_password("anna", PASSWORD)


def test_removing_nobody_names_who_is_known(people: People) -> None:
    people.put("anna", ("viewer",), PASSWORD)
    with pytest.raises(ConfigError, match="known: anna"):
        people.remove("bert")
