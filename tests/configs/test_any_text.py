"""Whatever stands in a file of settings, it gives settings or a list of problems, each with place and cure."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from places import ROOT

from configs.api_keys import ApiKeys
from configs.environment import Environment
from configs.judge import Judge
from configs.loading import check_text
from configs.project import FILES, OPTIONAL, ProjectFile
from configs.routing import RoutingTable
from configs.traffic_log import TrafficLog
from evals.suites import SuiteConfig

KINDS = {
    **FILES,
    **OPTIONAL,
    "project": ProjectFile,
    "keys": ApiKeys,
    "table": RoutingTable,
    "traffic_log": TrafficLog,
    "suite": SuiteConfig,
    "judge": Judge,
}
FILE = Path("settings.yaml")
TUTOR = ROOT / "configs" / "tutor"
SHIPPED = {path.stem: path.read_text() for path in TUTOR.glob("*.yaml")}

NASTY = (
    "{{ port }}",
    "2024-13-01",
    "0001-01-01T00:00:00+23:59",
    "!!bool maybe",
    "!!int ''",
    "!!int 0b",
    "!!float x",
    "!!timestamp x",
    "!!binary x",
    "!!binary aGVsbG8=",
    "!!set [a]",
    "!!set {a, b}",
    "!!map x",
    "!!pairs [a: 1]",
    "&a [*a]",
    "&a {b: *a}",
    "*nobody",
    '"\\ud800"',
    '"\\0"',
    '{"\\ud800": 1}',
    "0x" + "f" * 5000,
    "9" * 5000,
    "1:" * 400 + "1.5",
    "[" * 1500 + "]" * 1500,
    "{? [a] : b}",
    "{<<: 5}",
    "{~: 1}",
    "{$schema: []}",
    "{$schema: 5}",
    "{pattern: 'a{99999999999}'}",
    "'a{99999999999}'",
    "(" * 200,
)
SNIPPETS = st.sampled_from(NASTY) | st.text(max_size=20) | st.text("{}[]:,#&*!|>'\"%@`?-<~.0 1ae\n\t\\", max_size=30)


def judged(kind: str, text: str) -> None:
    value, problems = check_text(text, FILE, KINDS[kind])
    if value is not None:
        assert not problems
        value.model_dump_json()  # what is accepted can be written again: into a bundle, the ledger, a log
    for problem in problems:
        assert problem.where.startswith("settings.yaml")
        assert problem.what
        str(problem).encode()
    assert (value is None) == bool(problems)


@pytest.mark.parametrize("kind", KINDS)
@given(text=SNIPPETS | st.text())
@settings(max_examples=20, deadline=None)
def test_any_text_is_settings_or_a_list_of_problems(kind: str, text: str) -> None:
    judged(kind, text)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_so_is_any_text_in_the_place_of_a_value(kind: str, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(KINDS[kind].model_fields)))
    judged(kind, f"{key}: {data.draw(SNIPPETS)}\n")


@pytest.mark.parametrize("kind", sorted(SHIPPED))
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_so_is_a_shipped_file_in_which_one_line_has_another_value(kind: str, data: st.DataObject) -> None:
    lines = SHIPPED[kind].splitlines()
    number = data.draw(st.sampled_from([n for n, line in enumerate(lines) if ": " in line]))
    lines[number] = lines[number].partition(": ")[0] + ": " + data.draw(SNIPPETS)
    judged(kind, "\n".join(lines))


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)
SCHEMA_WORDS = st.sampled_from(["type", "$schema", "$ref", "pattern", "properties", "items", "maximum", "required"])


@given(schema=st.dictionaries(SCHEMA_WORDS, JSON_LIKE, max_size=4))
@example(schema={"$schema": "http://json-schema.org/draft-04/schema#", "pattern": "("})
@settings(max_examples=60, deadline=None)
def test_so_is_any_schema_in_a_contract(schema: dict[str, Any]) -> None:
    judged("contract", yaml.dump({"detectors": {"a": {"kind": "json", "json_schema": schema}}}))


@pytest.mark.parametrize(
    ("text", "place", "what", "cure"),
    [
        ("vllm:\n  port: {{ port }}\n", "line 2, column 10", "cannot be a key", "a template that nobody filled in"),
        ("name: 2024-13-01\n", "line 1, column 7", "'2024-13-01' cannot be read as timestamp (month", "in quotes"),
        ("name: local\nledger_url: &a [*a]\n", "line 2, column 13", "recursive", "in quotes"),
        ("name: local\nname: other\n", "line 2, column 1", "'name' is given twice", "keep one of them"),
        ('name: "\\ud800"\n', "line 1, column 7", "surrogates not allowed", "in quotes"),
        ("vllm:\n\tport: 1\n", "line 2, column 1", "cannot start any token", "in quotes"),
        ("[" * 3000, "", "nested too deeply", "stray brackets"),
        ("", "", "expected a mapping (key: value), found nothing", "`key: value`"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line_and_a_cure(text: str, place: str, what: str, cure: str) -> None:
    value, [problem] = check_text(text, FILE, Environment)
    assert value is None
    assert problem.where == f"settings.yaml: {place}" if place else problem.where == "settings.yaml"
    assert what in problem.what
    assert cure in problem.cure
