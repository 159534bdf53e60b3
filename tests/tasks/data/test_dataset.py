"""Dataset versions as files: what goes in, what is kept, and what happens when something is wrong."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from configs.dataset import DatasetRecipe
from configs.errors import SlipwayError
from tasks.data.dataset import build_dataset, read_version


def chat(prompt: str, answer: str) -> dict:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def lines(*rows) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


ROWS = [chat(f"What is {n} + {n}?", "What do you get when you double it?") for n in range(20)]


@pytest.fixture
def build(tmp_path, tokenizer_folder):
    """Writes files, builds a version of them in tmp_path/home."""

    def _build(
        content: bytes | None = None, name="rows.jsonl", folder="data", prompt="Be brief.", home="home", **recipe
    ):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        if content is not None:
            (place / name).write_bytes(content)
        settings = {"name": "sums", "sources": [{"path": name}], "split": {"holdout_prompts": 5}} | recipe
        parsed = DatasetRecipe.model_validate(settings)
        return build_dataset(parsed, place, tokenizer_folder, prompt, tmp_path / home)

    return _build


def rejected(version) -> list[dict]:
    return [json.loads(line) for line in (version.folder / "rejected.jsonl").read_text().splitlines()]


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "home" / "datasets").rglob("*"))


def test_a_version_holds_both_parts_and_says_how_it_came_about(build, tmp_path):
    version = build(lines(*ROWS, ROWS[3], chat("", "x")))
    manifest = version.manifest
    assert version.folder == tmp_path / "home" / "datasets" / version.digest.removeprefix("sha256:")[:12]
    assert (manifest.read, manifest.kept, manifest.duplicates, manifest.rejected) == (22, 20, 1, {"empty-content": 1})
    assert (manifest.parts["train"].rows, manifest.parts["holdout"].rows) == (15, 5)
    assert manifest.parts["train"].tokens_max == 24  # words, and three more a message: 5 + 8 + 11
    assert manifest.sources[0].name == "rows.jsonl"
    rows = [json.loads(line) for line in (version.folder / "train.jsonl").read_text().splitlines()]
    assert set(rows[0]) == {"id", "messages", "fields"}
    assert len({row["id"] for row in rows}) == 15


def test_a_version_says_in_two_lines_what_became_of_the_rows_and_where_the_rejected_ones_lie(build):
    first, second = build(lines(*ROWS, ROWS[3], chat("", "x"), b"{", chat("", "y"))).render().splitlines()
    assert "24 rows read, 20 kept (15 for training, 5 held out), 1 duplicates, 3 rejected" in first
    assert first.endswith("(2 empty-content, 1 not-json)")
    assert Path(second.partition("reasons: ")[2]).read_text().count("\n") == 4
    assert build(lines(*ROWS)).render().endswith("5 held out), 0 duplicates, 0 rejected")


def test_rejected_rows_keep_their_number_source_reason_and_content(build):
    version = build(lines(*ROWS[:4], ROWS[0], b"{broken", b'{"messages": "\xff"}', *ROWS[4:], chat("q", "w " * 900)))
    assert [(r["row"], r["source"], r["reason"]) for r in rejected(version)] == [
        (5, "rows.jsonl", "duplicate"),
        (6, "rows.jsonl", "not-json"),
        (7, "rows.jsonl", "not-utf8"),
        (24, "rows.jsonl", "too-long"),
    ]
    assert rejected(version)[0]["data"] == ROWS[0]
    assert rejected(version)[1]["data"] == "{broken"
    assert "0xff" in rejected(version)[2]["detail"]
    assert "912 tokens" in rejected(version)[3]["detail"]


@pytest.mark.parametrize(
    ("half", "shown"),
    [
        (
            b'{"messages": [{"role": "us',
            r"26 bytes without a line end, which are no JSON: \{\"messages\": \[\{\"role\": \"us",
        ),
        (lines(chat("Cut?", "é" * 60))[:-1].replace(b"\\u00e9", "é".encode())[:-40], r"\.\.\. é+\n"),
        ('{"messages": "é'.encode()[:-1], r"\\xc3"),
        (b'"abc', r'no JSON: "abc'),
    ],
    ids=["short", "long", "in a character", "text"],
)
def test_a_file_that_ends_in_the_middle_of_a_row_is_truncated_however_many_rows_may_be_rejected(
    build, tmp_path, half, shown
):
    with pytest.raises(SlipwayError, match=r"rows.jsonl is truncated(?s:.)*row 21, after 20 whole ones") as caught:
        build(lines(*ROWS) + half, max_rejected_share=1)
    assert re.search(shown, str(caught.value))
    assert "sed -i '$d'" in caught.value.cure
    assert left_behind(tmp_path) == []


def test_a_file_with_one_row_may_be_truncated_too(build):
    with pytest.raises(SlipwayError, match=r"is truncated: it ends in the middle of row 1, after 0 whole ones"):
        build(lines(ROWS[0])[:40])


def test_without_its_half_line_the_file_is_whole_again(build, tmp_path):
    path = tmp_path / "data" / "rows.jsonl"
    with pytest.raises(SlipwayError, match="truncated") as caught:
        build(lines(*ROWS)[:-20])
    subprocess.run(caught.value.cure.partition("half line: ")[2], shell=True, check=True)
    assert build(path.read_bytes()).manifest.kept == 19


def test_an_indented_array_is_not_called_truncated(build):
    with pytest.raises(SlipwayError, match=r"rows.jsonl holds no JSON lines(?s:.)*row 1: not-json(?s:.)*format: json"):
        build(json.dumps(ROWS, indent=1).encode())
    assert build(json.dumps(ROWS, indent=1).encode(), name="rows.json").manifest.kept == 20


def test_a_whole_last_line_that_is_bad_costs_one_row(build):
    version = build(lines(*ROWS) + b'{"messages": \n')
    assert [(r["row"], r["reason"]) for r in rejected(version)] == [(21, "not-json")]


def test_a_last_line_without_newline_a_byte_order_mark_and_blank_lines_are_fine(build):
    version = build(b"\xef\xbb\xbf" + lines(*ROWS).replace(b"\n", b"\r\n\r\n").rstrip())
    assert version.manifest.kept == 20
    assert not version.manifest.rejected


@pytest.mark.parametrize("row", [b'{"messages": [], "x": NaN}', b'{"messages": [], "x": "\\ud800"}', b"[" * 5000])
def test_what_json_cannot_express_again_is_rejected_and_still_readable(build, row):
    [found] = rejected(build(lines(*ROWS, row)))
    assert found["reason"] == "not-json"
    assert found["data"] == row.decode()


def test_parquet_and_jsonl_give_the_same_rows(build, tmp_path):
    import datasets

    (tmp_path / "data").mkdir()
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "data" / "rows[1].parquet")
    from_table, from_lines = build(name="rows[1].parquet"), build(lines(*ROWS))
    assert from_table.manifest.files == from_lines.manifest.files
    assert from_table.digest != from_lines.digest  # other source bytes


def test_the_datasets_library_reads_a_part_as_it_is(build, tmp_path):
    import datasets

    version = build(lines(*[row | {"answer": str(n)} for n, row in enumerate(ROWS)]))
    part = datasets.Dataset.from_json(str(version.folder / "holdout.jsonl"), cache_dir=str(tmp_path / "cache"))
    assert part.num_rows == 5
    assert part.column_names == ["fields", "id", "messages"]
    assert [m["role"] for m in part[0]["messages"]] == ["user", "assistant"]


def test_the_same_rows_and_recipe_are_the_same_version_wherever_they_lie(build):
    first = build(lines(*ROWS))
    assert build(lines(*ROWS)) == first  # found again
    assert build(lines(*ROWS), folder="elsewhere", home="another").digest == first.digest


@pytest.mark.parametrize(
    "change",
    [
        {"content": lines(*ROWS[:-1], chat("What is 19 + 19?", "Why?"))},
        {"content": lines(*reversed(ROWS))},
        {"prompt": "Be long."},
        {"name": "other.jsonl"},
        {"split": {"holdout_prompts": 6}},
        {"split": {"holdout_prompts": 5, "salt": "other"}},
        {"filters": {"max_row_tokens": 511}},
        {"max_rejected_share": 0.3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_makes_another_version(build, change):
    assert build(**{"content": lines(*ROWS)} | change).digest != build(lines(*ROWS)).digest


def test_a_version_is_read_only_and_an_edited_one_is_refused(build, tmp_path):
    version = build(lines(*ROWS))
    for path in version.folder.iterdir():
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    assert read_version(tmp_path / "home", version.digest) == version
    assert read_version(tmp_path / "home", version.digest.removeprefix("sha256:")[:12]) == version
    train = version.folder / "train.jsonl"
    train.chmod(0o644)
    train.write_bytes(train.read_bytes().replace(b"double", b"triple"))
    with pytest.raises(SlipwayError, match=r"changed after it was built(?s:.)*train.jsonl: its digest is sha256:"):
        read_version(tmp_path / "home", version.digest)
    with pytest.raises(SlipwayError, match=r"changed after it was built"):
        build(lines(*ROWS))


@pytest.mark.parametrize("edit", [lambda text: text.replace('"read": 20', '"read": 21'), lambda text: text[:50]])
def test_an_edited_manifest_is_refused(build, tmp_path, edit):
    version = build(lines(*ROWS))
    manifest = version.folder / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text(edit(manifest.read_text()))
    with pytest.raises(SlipwayError, match=r"manifest.json: "):
        read_version(tmp_path / "home", version.digest)


def test_a_version_that_is_not_there_names_those_that_are(build, tmp_path):
    version = build(lines(*ROWS))
    with pytest.raises(SlipwayError, match=version.folder.name):
        read_version(tmp_path / "home", "sha256:" + "0" * 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"rows.jsonl has no rows \(0 bytes\)"),
        (b"\n \n", r"has no rows"),
        (lines(*ROWS).decode().encode("utf-16"), r"is not UTF-8(?s:.)*row 1: byte 0 is 0xff(?s:.)*iconv"),
        (lines(*ROWS[:6], b"{", b"{"), r"2 of 8 rows(?s:.)*25.0%(?s:.)*20.0%(?s:.)*rows.jsonl: row 7: not-json"),
        (lines({"text": "a"}), r"no layout that is known; their fields are text(?s:.)*name `reader`"),
        (lines(*ROWS[:5]), r"the split leaves no rows for train: 5 different prompts(?s:.)*dataset.yaml: split"),
    ],
    ids=["empty", "blank", "utf-16", "mostly bad", "wrong reader", "all held out"],
)
def test_bad_input_names_the_place_the_values_and_the_cure_and_leaves_nothing(build, tmp_path, content, message):
    with pytest.raises(SlipwayError, match=message) as caught:
        build(content)
    assert "cure: " in str(caught.value)
    assert left_behind(tmp_path) == []


def test_many_bad_rows_are_counted_and_a_few_are_shown(build):
    with pytest.raises(SlipwayError) as caught:
        build(lines(*ROWS, *[b"{"] * 30))
    assert str(caught.value).count("not-json: ") == 5
    assert "... and 25 more; in all: 30 not-json" in str(caught.value)


def test_a_missing_file_names_its_neighbours(build):
    build(lines(*ROWS))
    with pytest.raises(SlipwayError, match=r"row.jsonl does not exist(?s:.)*sources.0.path(?s:.)*holds: rows.jsonl"):
        build(name="row.jsonl")


def test_a_file_of_another_kind_is_refused_by_its_suffix(build):
    with pytest.raises(SlipwayError, match=r"suffix is '.xlsx'(?s:.)*jsonl, json, csv"):
        build(b"a,b", name="rows.xlsx")


@pytest.mark.parametrize("left", [0, 4, 5, 300, -200, -8, -4, -1])
def test_a_parquet_file_that_is_cut_anywhere_is_refused(build, tmp_path, left):
    import datasets

    whole = tmp_path / "whole.parquet"
    datasets.Dataset.from_list(ROWS).to_parquet(whole)
    with pytest.raises(SlipwayError, match=r"rows.parquet cannot be read as parquet(?s:.)*it may be truncated"):
        build(whole.read_bytes()[:left], name="rows.parquet")
    build(whole.read_bytes(), name="rows.parquet")


def test_a_path_may_come_from_the_environment(build, tmp_path, monkeypatch):
    source = [{"path": "${SLIPWAY_TEST_ROWS}/rows.jsonl"}]
    monkeypatch.delenv("SLIPWAY_TEST_ROWS", raising=False)
    with pytest.raises(SlipwayError, match=r"SLIPWAY_TEST_ROWS is not set(?s:.)*export SLIPWAY_TEST_ROWS="):
        build(lines(*ROWS), sources=source)
    monkeypatch.setenv("SLIPWAY_TEST_ROWS", str(tmp_path / "data"))
    assert build(lines(*ROWS), sources=source).digest == build(lines(*ROWS)).digest


SCRIPT = """
import resource, sys, time
from pathlib import Path
from configs.errors import SlipwayError
from delivery.build.dataset import Manifest
from tasks.data.store import new_version
home, manifest, how = Path(sys.argv[1]), Manifest.model_validate_json(sys.argv[2]), sys.argv[3]
try:
    with new_version(home, "sums") as draft:
        for name in manifest.files:
            draft.file(name).write(b"x" * 20_000)
            if how == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # no file grows beyond this: a disk that fills
            while how == "wait":
                print("ready" * (how == "wait"), flush=True)
                time.sleep(0.01)  # one long sleep would miss a signal that arrives just before it
        draft.keep(manifest)
except SlipwayError as error:
    print(error)
    sys.exit(2)
"""


@pytest.fixture
def start(tmp_path, build):
    """Another process that writes a version, and runs into `how`."""
    manifest = build(lines(*ROWS), home="elsewhere").manifest.model_dump_json()

    def _start(how: str) -> subprocess.Popen:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "home"), manifest, how]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    return _start


def test_a_disk_that_is_full_is_a_clear_error_and_leaves_nothing_half_done(start, tmp_path):
    process = start("full")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert "cannot write dataset version" in output
    assert "File too large" in output
    assert re.search(r"where: .*/\w+\.jsonl", output)
    assert "ulimit -f" in output
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_stopped_in_the_middle_is_no_version_and_can_be_repeated(start, build, tmp_path, by):
    process = start("wait")
    assert process.stdout.readline() == "ready\n"
    assert any(name.startswith(".building-") for name in left_behind(tmp_path))
    process.send_signal(by)
    process.communicate(timeout=60)
    if by is signal.SIGINT:
        assert left_behind(tmp_path) == []
    version = build(lines(*ROWS))
    assert os.listdir(tmp_path / "home" / "datasets") == [version.folder.name]
