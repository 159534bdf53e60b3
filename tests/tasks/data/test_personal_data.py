"""Personal data and secrets: found without a language model, replaced or kept apart, and never repeated."""

import json
import stat
import subprocess
import sys

import pytest
from places import ROOT

from configs.dataset import DatasetRecipe
from configs.filters import PersonalDataFilter
from tasks.data.dataset import build_dataset
from tasks.data.filters.personal_data import find

pytestmark = pytest.mark.live  # presidio's import alone takes seconds

TEXTS = {
    "anna.meier@example.org": "EMAIL_ADDRESS",
    "+49 30 90182000": "PHONE_NUMBER",
    "4111 1111 1111 1111": "CREDIT_CARD",
    "DE89370400440532013000": "IBAN_CODE",
    "192.168.17.4": "IP_ADDRESS",
    "AKIAIOSFODNN7EXAMPLE": "SECRET",
    "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB": "SECRET",
    "password: hunter2hunter2": "SECRET",
}


def chat(prompt: str, answer: str = "What next?") -> dict:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def build(tmp_path, tokenizer_folder):
    def _build(rows, **personal):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        given = {"name": "sums", "sources": [{"path": "rows.jsonl"}], "split": {"holdout_prompts": 3}}
        recipe = DatasetRecipe.model_validate(given | {"max_rejected_share": 1, "filters": {"personal_data": personal}})
        return build_dataset(recipe, tmp_path, tokenizer_folder, "Be brief.", tmp_path / "home")

    return _build


ROWS = [chat(f"What is {n} + {n}?") for n in range(12)]


@pytest.mark.parametrize("text", TEXTS)
def test_each_kind_is_found_in_the_middle_of_a_sentence(text):
    said = f"Please write this down: {text} and go on."
    [(start, end, kind), *more] = find(said, PersonalDataFilter(action="replace"))
    assert (said[start:end], kind, more) == (text, TEXTS[text], [])


@pytest.mark.parametrize("text", ["What is 12 + 5?", "In 1998 there were 4,000 of 12,345.", "Is 3.14 near pi @ all?"])
def test_sums_and_years_are_nobodys(text):
    assert find(text, PersonalDataFilter(action="replace")) == []


def test_replaced_data_is_nowhere_in_the_version_and_the_change_is_counted(build):
    rows = [*ROWS, *(chat(f"Row {n}: {text} is mine") for n, text in enumerate(TEXTS))]
    version = build(rows, action="replace")
    for file in version.folder.iterdir():
        for text in TEXTS:
            assert text not in file.read_text(encoding="utf-8"), file.name
    assert version.manifest.changed == {"personal-data": len(TEXTS)}
    assert version.manifest.steps[0].changed == len(TEXTS)
    report = json.loads((version.folder / "report.json").read_text())
    shown = report["changed"]["personal-data"]["examples"][0]
    assert shown["before"] == "[EMAIL_ADDRESS (22 characters)]"
    assert shown["after"] == "Row 0: <EMAIL_ADDRESS> is mine"


def test_rows_that_were_told_apart_by_personal_data_alone_are_duplicates_afterwards(build):
    version = build([*ROWS, chat("I am a@example.org"), chat("I am bb@example.org")], action="replace")
    assert version.manifest.duplicates == 1


def test_quarantined_rows_lie_apart_for_their_owner_alone_and_are_not_repeated_elsewhere(build):
    version = build([*ROWS, *(chat(f"Row: {text} is mine") for text in TEXTS)], action="quarantine")
    apart = version.folder / "quarantine.jsonl"
    assert stat.S_IMODE(apart.stat().st_mode) == 0o400
    assert [json.loads(line)["reason"] for line in apart.read_text().splitlines()] == ["personal-data"] * len(TEXTS)
    assert version.manifest.rejected == {"personal-data": len(TEXTS)}
    for file in version.folder.iterdir():
        if file != apart:
            assert not any(text in file.read_text(encoding="utf-8") for text in TEXTS), file.name


def test_only_the_kinds_that_are_asked_for_go(build):
    version = build(
        [*ROWS, *(chat(f"Row: {text} is mine") for text in TEXTS)], action="replace", entities=["IBAN_CODE"]
    )
    assert version.manifest.changed == {"personal-data": 1}


def test_nothing_of_it_is_imported_without_the_filter_and_nothing_is_fetched_with_it():
    code = (
        "import sys, socket\n"
        "from tasks.data.filters import known, personal_data\n"
        "assert not {'presidio_analyzer', 'spacy', 'datasketch', 'py3langid', 'mlcroissant'} & set(sys.modules)\n"
        "def refuse(*_, **__): raise AssertionError('the network was asked')\n"
        "socket.getaddrinfo = socket.create_connection = refuse\n"
        "from configs.filters import PersonalDataFilter\n"
        "print(personal_data.find('x a@example.co.uk', PersonalDataFilter(action='replace')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[(2, 17, 'EMAIL_ADDRESS')]", done.stderr
    assert "Exception" not in done.stderr
