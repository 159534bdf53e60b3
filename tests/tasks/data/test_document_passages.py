"""Documents become passages: what a reader sees of them, cut where a thought ends."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import SlipwayError
from tasks.data.documents import passages_of, read_passages


def pdf(text: str) -> bytes:
    """The smallest PDF with one line of text; its table of places is left for the reader to mend."""
    stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
    objects = (
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(stream)}>>\nstream\n{stream}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )
    out, places = "%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{one}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return (out + head + f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(out)}\n%%EOF").encode()


HTML = """<html><head><title>Not said</title><style>p {}</style></head><body><h1>Ice</h1>
<p>Ice is <b>less dense</b>
than water &amp; floats.</p><script>never()</script><ul><li>It expands.</li></ul></body></html>"""


def test_each_kind_is_read_as_a_reader_sees_it_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "a.md").write_text("# Ice\n\nIt floats.")
    (tmp_path / "more" / "b.html").write_text(HTML)
    (tmp_path / "c.pdf").write_bytes(pdf("Water boils at 100 degrees."))
    (tmp_path / "d.txt").write_text("\ufeffPlain text.", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"not read")
    found = {one.document: one for one in read_passages(tmp_path, 100)}
    assert {name: one.text for name, one in found.items()} == {
        "a.md": "# Ice\n\nIt floats.",
        "more/b.html": "Ice\n\nIce is less dense than water & floats.\n\nIt expands.",
        "c.pdf": "Water boils at 100 degrees.",
        "d.txt": "Plain text.",
    }
    assert found["a.md"].number == 1
    assert found["a.md"].digest.startswith("sha256:")
    assert read_passages(tmp_path / "a.md", 100) == [found["a.md"]]


def test_every_document_that_cannot_be_used_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Fine.")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "broken.pdf").write_bytes(b"no PDF")
    (tmp_path / "scan.pdf").write_bytes(pdf(""))
    with pytest.raises(SlipwayError) as told:
        read_passages(tmp_path, 100)
    text = str(told.value)
    for part in (
        "4 of 5 documents",
        "empty.txt",
        "latin.txt",
        "no UTF-8",
        "broken.pdf",
        "cannot be read as PDF",
        "OCR",
    ):
        assert part in text
    with pytest.raises(SlipwayError, match="there is no document"):
        read_passages(tmp_path / "nowhere", 100)


@given(st.lists(st.text("ab .!?\n", max_size=60), max_size=8), st.integers(2, 9))
def test_passages_hold_every_word_once_and_none_is_too_long(parts: list[str], at_most: int) -> None:
    text = "\n\n".join(parts)
    found = list(passages_of(text, at_most))
    assert " ".join(found).split() == text.split()
    assert all(0 < len(one.split()) <= at_most for one in found)
