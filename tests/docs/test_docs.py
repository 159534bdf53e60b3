"""The pages say what is so: links lead somewhere, commands and their options exist, YAML is what the product reads."""

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from places import ROOT

from configs.api_keys import ApiKeys
from configs.loading import check
from configs.project import FILES, OPTIONAL, ProjectFile
from configs.routing import RoutingTable
from evals.suites import SuiteConfig
from flows.cli.main import app

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODELS = {
    **{f"{name}.yaml": model for name, model in (FILES | OPTIONAL).items()},
    "project.yaml": ProjectFile,
    "eval.yaml": SuiteConfig,
    "table.yaml": RoutingTable,
    "keys.yaml": ApiKeys,
}
OWN_TESTS = {  # pages whose YAML is tried out whole, in a test of its own
    "evals.md": "tests/evals/test_evals_page.py",
    "gateway.md": "tests/delivery/gateway/test_gateway_process.py",
    "traffic-log.md": "tests/delivery/gateway/test_traffic_log.py",
}
PAGE = {"ids": lambda value: str(value.relative_to(ROOT)) if isinstance(value, Path) else None}


def fenced(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """The line numbers and texts of a page's blocks in one language."""
    for found in re.finditer(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        yield page.read_text()[: found.start()].count("\n") + 1, found.group(1)


def shell_lines(page: Path) -> Iterator[tuple[int, str]]:
    """What a page shows as typed in a shell: indented lines, and lines of sh and console blocks, comments cut off."""
    block = ""
    for number, line in enumerate(page.read_text().split("\n"), start=1):
        if line.startswith("```"):
            block = "" if block else line[3:] or "text"
        elif block in ("sh", "console", "bash") or (not block and line.startswith("    ")):
            yield number, line.strip().removeprefix("$ ")


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, **PAGE)
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists():
            dead.append(f"{target}: there is no {place}")
        elif anchor and anchor not in [
            slug(head) for head in re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)
        ]:
            dead.append(f"{target}: {place.name} has no such heading")
    assert not dead, "\n".join(dead)


@pytest.mark.parametrize("page", PAGES, **PAGE)
def test_every_command_of_ours_exists_with_the_options_shown(page: Path) -> None:
    commands = typer.main.get_command(app)
    wrong = []
    for number, line in shell_lines(page):
        for part in re.split(r"\s(?:&&|\|)\s|;\s", line):
            found = re.match(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?slipway (.*)", part)
            if found:
                wrong += [f"{page.name}:{number}: {problem}" for problem in command_problems(commands, found.group(1))]
    assert not wrong, "\n".join(wrong)


def command_problems(command: Any, text: str) -> list[str]:
    words = shlex.split(text, comments=True)
    while hasattr(command, "commands") and words:
        if words[0] not in command.commands:
            known_help = words[0].startswith(("-", "COMMAND"))
            return [] if known_help else [f"there is no command {words[0]!r}: slipway {text}"]
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = [word.partition("=")[0] for word in words if word.startswith("-") and not word.startswith("--help")]
    return [f"{command.name} has no option {option}" for option in options if option not in known]


@pytest.mark.parametrize("page", PAGES, **PAGE)
def test_every_module_that_is_run_exists(page: Path) -> None:
    named = re.findall(r"python -m ((?:delivery|tasks|flows|demo|benchmarks)[\w.]*)", page.read_text())
    assert [name for name in named if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in OWN_TESTS], **PAGE)
def test_every_yaml_block_is_what_the_product_reads(page: Path, tmp_path: Path) -> None:
    """Its first line names the file, `# rollout.yaml`, or says `# in rollout.yaml`, for a part of the tutor's."""
    wrong = []
    for line, text in fenced(page, "yaml"):
        where = f"{page.name}:{line}"
        named = re.match(r"# (in )?([\w.]+\.ya?ml)\b", text)
        if named is None:
            wrong.append(f"{where}: the first line does not name the file: # NAME.yaml")
            continue
        values = yaml.safe_load(text)
        if named.group(2) not in MODELS:
            continue  # another program's file: it parses
        if named.group(1):
            values = yaml.safe_load((ROOT / "configs" / "tutor" / named.group(2)).read_text()) | values
        file = tmp_path / named.group(2)
        file.write_text(yaml.safe_dump(values))
        wrong += [f"{where}: {problem}" for problem in check(file, MODELS[named.group(2)])[1]]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, **PAGE)
def test_every_json_block_is_json(page: Path) -> None:
    for _, text in fenced(page, "json"):
        json.loads(text)


@pytest.mark.parametrize(("page", "test"), OWN_TESTS.items())
def test_a_page_with_a_test_of_its_own_is_read_there(page: str, test: str) -> None:
    assert page in (ROOT / test).read_text()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), **PAGE)
def test_every_page_is_reached_from_the_front_page(page: Path) -> None:
    assert f"(docs/{page.name}" in (ROOT / "README.md").read_text()


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split("\n")) <= 150
