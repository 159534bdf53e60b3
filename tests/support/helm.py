"""Helm in a process of its own: its library is Go's runtime, which has no place among the tests' threads."""

import atexit
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from places import ROOT

CHART = ROOT / "charts" / "slipway"
CHILD = """
import json, sys
import helm_python as helm

def do(does, said):
    if does == "lint":
        return helm.lint(said.pop("chart"), said.pop("values"), **said)
    if does == "render":
        with helm.Chart.load(said.pop("chart")) as chart:
            return chart.render(said.pop("values"), **said)
    with helm.Config(kubeconfig_path=said.pop("kubeconfig"), namespace=said.pop("namespace")) as config:
        return getattr(config, does)(**said)

for line in sys.stdin:
    try:
        answer = [True, do(*json.loads(line))]
    except helm.HelmError as error:
        answer = [False, f"{type(error).__name__}: {error}"]
    print(json.dumps(answer), flush=True)
"""


class HelmError(Exception):
    """What Helm refused, in its words."""


@cache
def _child() -> "subprocess.Popen[str]":
    found = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(found.kill)
    return found


def helm(does: str, **said: Any) -> Any:
    """One of Helm's actions: lint, render, or one that needs a cluster (install, upgrade, rollback, uninstall)."""
    said = {name: str(value) if isinstance(value, Path) else value for name, value in said.items()}
    child = _child()
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps([does, said]) + "\n")
    child.stdin.flush()
    is_done, answer = json.loads(child.stdout.readline())
    if not is_done:
        raise HelmError(answer)
    return answer


def rendered(values: dict[str, Any], chart: Path = CHART, namespace: str = "serving") -> list[dict[str, Any]]:
    """Every resource of the chart with these values."""
    files = helm("render", chart=chart, values=values, name="slipway", namespace=namespace)
    found = [one for text in files.values() for one in yaml.safe_load_all(text)]
    return [one for one in found if one]
