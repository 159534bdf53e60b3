"""The same rows in every kind of file are the same dataset; a broken file is named, and a bad row costs a row."""

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.dataset import DatasetRecipe, Source
from configs.errors import SlipwayError
from delivery.build.dataset import refuse_other_method
from tasks.data.dataset import build_dataset, look_at
from tasks.data.reading import open_source
from tasks.data.sources import locate_all

ROWS = [
    {"prompt": f"What is {n} + {n}?\nSay, é.", "completion": "What do you get, when you double it?"} for n in range(20)
]


def as_csv(delimiter: str = ",", rows=ROWS) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return out.getvalue().encode()


def as_lines(rows=ROWS) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def table(binary: bool = False) -> pa.Table:
    kind = pa.binary() if binary else pa.string()
    return pa.table({key: pa.array([row[key].encode() for row in ROWS], pa.binary()).cast(kind) for key in ROWS[0]})


def parquet(binary: bool = False) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table(binary), sink, row_group_size=7)
    return sink.getvalue()


def arrow(new) -> bytes:
    sink = io.BytesIO()
    with new(sink, table().schema) as writer:
        writer.write_table(table(), max_chunksize=6)
    return sink.getvalue()


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


FILES = {
    "rows.jsonl": as_lines(),
    "rows.ndjson": as_lines(),
    "rows.json": json.dumps(ROWS, indent=2).encode(),
    "lines.json": as_lines(),
    "wrapped.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "rows.csv": as_csv(),
    "rows.tsv": as_csv("\t"),
    "marked.csv": b"\xef\xbb\xbf" + as_csv(),
    "rows.parquet": parquet(),
    "binary.parquet": parquet(binary=True),
    "file.arrow": arrow(pa.ipc.new_file),
    "stream.arrow": arrow(pa.ipc.new_stream),
    "rows.feather": arrow(pa.ipc.new_file),
}


@pytest.fixture
def build(tmp_path, tokenizer_folder):
    """Writes files below tmp_path/data and builds a version of a source."""

    def _build(files: dict[str, bytes], path: str | None = None, home="home", recipe=None, **more):
        for name, content in files.items():
            place = tmp_path / "data" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        recipe = {"split": {"holdout_prompts": 5}} | (recipe or {})
        source = {"path": path or next(iter(files))} | more
        settings = {"name": "sums", "sources": [source]} | recipe
        return build_dataset(
            DatasetRecipe.model_validate(settings), tmp_path / "data", tokenizer_folder, "Be brief.", tmp_path / home
        )

    return _build


def rejected(version) -> list[dict]:
    return [json.loads(line) for line in (version.folder / "rejected.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("packed", [None, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("name", FILES)
def test_every_format_packed_or_not_gives_the_same_rows(build, name, packed):
    content = FILES[name] if packed is None else packed(FILES[name])
    suffix = {None: "", gzip.compress: ".gz", zstd: ".zst"}[packed]
    version = build({name + suffix: content})
    assert version.manifest.kept == 20
    plain = build({"plain.jsonl": as_lines()}).manifest.files
    parts = ("train.jsonl", "holdout.jsonl")
    assert [version.manifest.files[part] for part in parts] == [plain[part] for part in parts]


def test_packed_bytes_are_unpacked_whatever_the_name_says(build):
    assert build({"rows.jsonl": gzip.compress(as_lines())}).manifest.kept == 20


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_a_packed_file_that_is_cut_is_refused(build, pack, name):
    whole = pack(FILES[name])
    for cut in (
        whole[:-3],
        whole[: len(whole) // 2],
        whole[: len(whole) // 2] + b"\0" * 9 + whole[len(whole) // 2 + 9 :],
    ):
        with pytest.raises(SlipwayError, match="may be truncated"):
            build({name + ".x": cut}, format=name.partition(".")[2])


@pytest.mark.parametrize("name", ["rows.json", "wrapped.json", "rows.csv", "file.arrow", "stream.arrow"])
def test_a_file_that_is_cut_in_a_row_is_refused(build, name):
    whole = FILES[name].rstrip()
    for left in (len(whole) // 2, len(whole) - 3):
        cut = whole[:left] if name != "rows.csv" else whole[:left].rpartition(b'"')[0] + b'"When'
        with pytest.raises(SlipwayError, match=r"truncated|cannot be read"):
            build({name: cut}, recipe={"max_rejected_share": 1})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[", ("truncated",)),
        (b"[{}, ]", ("row 2",)),
        (b"[{} {}]", ("row 1", "expected ','")),
        (b'[{"a": 1}] 7', ("more behind the array",)),
        (b'[{"prompt": "a", "prompt": "b"}]', ("'prompt' stands twice",)),
        (b'{"a": [{}], "b": [{}]}', ("several lists: a, b",)),
        (b'["\xff"]', ("0xff is no UTF-8",)),
        (b"[]", ("has no rows",)),
        (b" ", ("has no rows",)),
        (b"[1, 2]", ("no row is an object",)),
    ],
)
def test_a_json_file_that_is_no_array_of_rows_says_what_it_is(build, content, words):
    with pytest.raises(SlipwayError) as caught:
        build({"rows.json": content})
    for word in words:
        assert word in str(caught.value)


def test_a_long_array_is_read_in_pieces(build, monkeypatch):
    monkeypatch.setattr("tasks.data.formats.json_array.PIECE_BYTES", 7)
    assert build({"rows.json": FILES["rows.json"]}).manifest.kept == 20
    assert (
        build({"one.json": b"[1, 12345678901, " + as_lines(ROWS).replace(b"\n", b",")[:-1] + b"]"}).manifest.read == 22
    )


def test_one_bad_row_of_a_table_costs_one_row_and_keeps_its_line(build):
    good = as_csv().split(b"\r\n")
    version = build({"rows.csv": b"\r\n".join([*good[:-1], b"a,b,c", b"only", b"caf\xe9,b", b""])})
    assert [(r["reason"], r["row"]) for r in rejected(version)] == [
        ("wrong-shape", 42),
        ("wrong-shape", 43),
        ("not-utf8", 44),
    ]
    assert rejected(version)[2]["data"] == ["caf\\xe9", "b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (as_csv(";"), ("is one field", "delimiter may be ';'")),
        (b"a,a\n1,2\n", ("names fields twice", "'a'")),
        (b'prompt,completion\n"open,b\n', ("cannot be read", "truncated")),
        (as_csv().decode().encode("utf-16"), ("UTF-16", "iconv")),
        (b"caf\xe9,b\n1,2\n", ("is not UTF-8",)),
        (b"prompt,completion\n", ("has no rows",)),
    ],
)
def test_a_table_that_cannot_be_read_says_why(build, content, words):
    with pytest.raises(SlipwayError) as caught:
        build({"rows.csv": content})
    for word in words:
        assert word in str(caught.value)


def test_a_delimiter_may_be_named(build):
    assert build({"rows.csv": as_csv(";")}, delimiter=";").manifest.kept == 20


def test_bytes_that_are_no_utf8_cost_their_row_where_they_are_used_and_where_they_are_not(build, tmp_path):
    texts, bad = [row["prompt"].encode() for row in ROWS], [b"x"] * 18 + [b"\xff\xd8", b"y"]
    columns = {"prompt": [*texts[:-1], b"\xe9"], "completion": [b"Why?"] * 20, "picture": bad}
    sink = io.BytesIO()
    pq.write_table(pa.table({key: pa.array(values, pa.binary()) for key, values in columns.items()}), sink)
    version = build({"rows.parquet": sink.getvalue()})
    assert [(r["row"], r["reason"]) for r in rejected(version)] == [(19, "not-utf8"), (20, "not-utf8")]
    assert "`picture`: byte 0 is 0xff" in rejected(version)[0]["detail"]
    assert "b'" not in (version.folder / "train.jsonl").read_text()
    assert build({}, path="rows.parquet", ignore=["picture"]).manifest.rejected == {"not-utf8": 1}


def test_messages_as_json_text_in_a_table_are_read(build):
    turns = [[{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": "Why?"}] for r in ROWS]
    sink = io.BytesIO()
    pq.write_table(pa.table({"messages": [json.dumps(turn) for turn in turns]}), sink)
    assert build({"rows.parquet": sink.getvalue()}).manifest.kept == 20


def test_a_class_of_the_datasets_library_is_its_name(build, tmp_path):
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    data = datasets.Dataset.from_dict({"text": [f"t {n}" for n in range(20)], "label": [0, 1] * 10}, features=features)
    data.to_parquet(tmp_path / "rows.parquet")
    template = [{"role": "user", "content": "{text}"}, {"role": "assistant", "content": "{label}"}]
    version = build({"rows.parquet": (tmp_path / "rows.parquet").read_bytes()}, messages=template)
    assert {json.loads(line)["messages"][1]["content"] for line in (version.folder / "train.jsonl").open()} == {
        "bad",
        "good",
    }


def test_a_byte_order_mark_is_counted_wherever_it_stands(build):
    lines = as_lines().splitlines(keepends=True)
    version = build({"rows.jsonl": b"\xef\xbb\xbf" + b"".join(lines[:9]) + b"\xef\xbb\xbf" + b"".join(lines[9:])})
    assert (version.manifest.kept, version.manifest.changed) == (20, {"byte-order-mark": 2})
    assert build({"marked.csv": FILES["marked.csv"]}).manifest.changed == {"byte-order-mark": 1}


def test_a_folder_and_a_glob_give_all_their_files_in_order(build):
    halves = {"many/a.jsonl": as_lines(ROWS[:10]), "many/deep/b.csv.gz": gzip.compress(as_csv(rows=ROWS[10:]))}
    version = build(halves | {"many/README.md": b"Read me.", "many/.hidden": b"x"}, path="many")
    assert [source.name for source in version.manifest.sources] == ["a.jsonl", "b.csv.gz"]
    assert version.manifest.kept == 20
    again = build({}, path="many/**/*.*s*")
    assert again.manifest.files == version.manifest.files


@pytest.mark.parametrize(
    ("files", "path", "words"),
    [
        ({"many/a.jsonl": as_lines(), "many/b.xlsx": b"x"}, "many", ("no reader reads: b.xlsx", "*.jsonl")),
        ({"many/README.md": b"x"}, "many", ("holds no file of rows",)),
        ({"a.jsonl": as_lines()}, "*.csv", ("does not exist", "a.jsonl")),
    ],
)
def test_a_folder_without_use_says_so(build, files, path, words):
    with pytest.raises(SlipwayError) as caught:
        build(files, path=path)
    for word in words:
        assert word in str(caught.value)


def test_a_folder_of_the_datasets_library_is_read_and_its_split_must_be_named(build, tmp_path):
    import datasets

    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(tmp_path / "data" / "one", num_shards=2)
    datasets.DatasetDict({"train": data, "test": data.select(range(8))}).save_to_disk(tmp_path / "data" / "two")
    one, train, test = build({}, path="one"), build({}, path="two", split="train"), build({}, path="two", split="test")
    assert one.manifest.files["train.jsonl"] == train.manifest.files["train.jsonl"]
    assert (one.manifest.kept, test.manifest.kept) == (20, 8)
    with pytest.raises(SlipwayError, match=r"several splits, and `split` is None(?s:.)*one of train, test"):
        build({}, path="two")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"hub": "org/rows"}, "a hub dataset needs `revision`"),
        ({"hub": "org/rows", "revision": "main", "split": "train"}, "revision"),
        ({"hub": "org/rows", "revision": "a" * 40}, "`split`"),
        ({"hub": "org/rows", "path": "a.jsonl"}, "exactly one of path, hub"),
        ({"path": "a.jsonl", "revision": "a" * 40}, "belong to `hub`"),
        ({"path": "a.jsonl", "reader": "messages", "messages": [{"role": "user", "content": "a"}]}, "two ways"),
    ],
)
def test_a_source_that_says_two_things_or_half_a_thing_is_refused(source, words):
    settings = {"name": "sums", "sources": [source], "split": {"holdout_prompts": 5}}
    with pytest.raises(ValueError, match=words):
        DatasetRecipe.model_validate(settings)


def test_a_reader_and_a_format_that_do_not_exist_name_those_that_do(build):
    with pytest.raises(SlipwayError, match=r"no reader 'vicuna'(?s:.)*sharegpt"):
        build({"rows.jsonl": as_lines()}, reader="vicuna")
    with pytest.raises(SlipwayError, match=r"no format 'xml'(?s:.)*parquet"):
        build({"rows.jsonl": as_lines()}, format="xml")


def test_pairs_make_a_version_of_pairs_and_do_not_mix_with_conversations(build):
    pairs = [{"prompt": row["prompt"], "chosen": "Why?", "rejected": "No."} for row in ROWS]
    version = build({"pairs.jsonl": as_lines(pairs)})
    assert version.manifest.kind == "preferences"
    first = json.loads((version.folder / "train.jsonl").read_text().splitlines()[0])
    assert set(first) == {"id", "prompt", "chosen", "rejected", "fields"}
    with pytest.raises(SlipwayError, match="mixes 20 preference pairs with 20 conversations"):
        build({"both/a.jsonl": as_lines(pairs), "both/b.jsonl": as_lines()}, path="both")


def test_tools_that_the_chat_template_does_not_show_cost_their_row(build):
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    rows = [row | ({"tools": [tool]} if n == 3 else {}) for n, row in enumerate(ROWS)]
    version = build({"rows.jsonl": as_lines(rows)})
    assert version.manifest.rejected == {"template-changes": 1}
    detail = rejected(version)[0]["detail"]
    assert "the tool add" in detail
    assert "`ignore: [tools]`" in detail
    assert build({}, path="rows.jsonl", ignore=["tools"]).manifest.kept == 20


def test_pairs_are_for_dpo_and_conversations_for_sft(build):
    pairs = [{"prompt": row["prompt"], "chosen": "Why?", "rejected": "No."} for row in ROWS]
    with pytest.raises(SlipwayError, match=r"holds preferences(?s:.)*method: dpo"):
        refuse_other_method(build({"pairs.jsonl": as_lines(pairs)}), "sft")
    with pytest.raises(SlipwayError, match=r"holds conversations(?s:.)*method: sft"):
        refuse_other_method(build({"rows.jsonl": as_lines()}), "dpo")
    refuse_other_method(build({"rows.jsonl": as_lines()}), "sft")


def test_rows_stay_together_by_a_field_and_stay_where_they_are_as_the_data_grows(build, tmp_path):
    rows = [row | {"meta": {"user": f"u{n % 7}"}} for n, row in enumerate(ROWS)]
    split = {"holdout_share": 0.4, "group_by": "meta.user"}

    def users(version, part: str) -> set[str]:
        return {json.loads(line)["fields"]["meta"]["user"] for line in (version.folder / f"{part}.jsonl").open()}

    before = build({"rows.jsonl": as_lines(rows)}, recipe={"split": split})
    assert not users(before, "train") & users(before, "holdout")
    more = [{"prompt": f"New {n}?", "completion": "Why?", "meta": {"user": f"u{n}"}} for n in range(30)]
    after = build({"more.jsonl": as_lines([*more, *rows])}, recipe={"split": split})
    for part in ("train", "holdout"):
        assert users(before, part) <= users(after, part)
    lost = build({"lost.jsonl": as_lines([*rows, {"prompt": "Whose?", "completion": "Why?"}])}, recipe={"split": split})
    assert lost.manifest.rejected == {"no-group": 1}


def test_prompts_that_differ_in_punctuation_alone_are_on_one_side(build):
    rows = [
        {"prompt": f"What is {n} + 1{end}", "completion": "Why?"} for n in range(40) for end in ("?", " ?", ".", "")
    ]
    version = build({"rows.jsonl": as_lines(rows)}, recipe={"split": {"holdout_prompts": 8}})
    sides = [
        {json.loads(line)["messages"][0]["content"].rstrip("?. ") for line in (version.folder / f"{part}.jsonl").open()}
        for part in ("train", "holdout")
    ]
    assert not sides[0] & sides[1]
    assert version.manifest.parts["holdout"].prompts == 8


def test_a_look_tells_in_advance_what_a_build_would_make_of_the_rows(tmp_path, tokenizer_folder):
    (tmp_path / "rows.jsonl").write_bytes(as_lines([*ROWS, ROWS[0], {"prompt": " x", "completion": "y"}]))
    recipe = DatasetRecipe.model_validate(
        {"name": "sums", "sources": [{"path": "rows.jsonl"}], "split": {"holdout_share": 0.2}}
    )
    look = look_at(recipe, tmp_path, tokenizer_folder, "Be brief.", at_most=1000)
    assert (look.whole, look.report.read, look.report.kept) == (True, 22, 21)
    assert look.report.counts("rejected") == {"duplicate": 1}
    assert look.report.counts("changed") == {"outer-space": 1}
    assert look.sources[0].reader == "prompt-completion"
    assert len(look.examples) == 3
    assert look_at(recipe, tmp_path, tokenizer_folder, "Be brief.", at_most=5).whole is False
    assert sorted(p.name for p in Path(tmp_path).iterdir()) == ["rows.jsonl"]


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines(ROWS * 20))
    [located] = locate_all([Source(path=path)], tmp_path)
    rows = open_source(located).rows
    next(rows)
    with path.open("ab") as out:
        out.write(as_lines(ROWS[:1]))
    with pytest.raises(SlipwayError, match="was written while it was read"):
        list(rows)
