"""What users asked is read from a traffic log: one question a user, before a moment and since."""

from pathlib import Path

import pyarrow
import pytest
from asked_of import write_asked
from pyarrow import parquet

from configs.errors import ConfigError
from delivery.clients.asked_log import read_asked


def test_the_last_question_of_one_request_of_each_user_of_the_route_is_read(tmp_path: Path) -> None:
    write_asked(tmp_path / "old.parquet", ["one", "two"], at=5)
    write_asked(tmp_path / "new.parquet", ["three"], at=10)
    write_asked(tmp_path / "same.parquet", ["four", "five"], at=11, user="ann")
    write_asked(tmp_path / "other.parquet", ["of another route"], at=11, route="sql")
    before, since = read_asked(tmp_path, "tutor", 10, 100)
    assert sorted(before) == ["one", "two"]
    assert len(since) == 2
    assert "three" in since


def test_a_log_without_prompts_and_a_damaged_one_are_told(tmp_path: Path) -> None:
    rows = [{"request_id": "r", "started_at": 1.0, "route": "tutor", "prompt": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="holds no prompts"):
        read_asked(tmp_path, "tutor", 1, 100)
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigError, match="cannot be read as parquet"):
        read_asked(tmp_path, "tutor", 1, 100)


def test_content_in_parts_is_read_and_a_prompt_that_was_cut_is_left_out(tmp_path: Path) -> None:
    parts = '[{"role": "user", "content": [{"type": "text", "text": "what is this?"}]}]'
    rows = [
        {"request_id": name, "started_at": 1.0, "route": None, "prompt": prompt}
        for name, prompt in (("a", parts), ("b", parts[:20]))
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read_asked(tmp_path, "tutor", 9, 100) == (["what is this?"], [])
