"""Whether documents speak of the bundle that they lie beside. Their bytes are checked by digest before."""

import json
import re
from collections.abc import Callable, Mapping

import yaml
from pydantic import ValidationError

from configs.errors import Problem
from delivery.build.bundle import Bundle
from delivery.build.documents.origin import BILL, EVAL_REPORT, LICENSES, MODEL_CARD, PAGE, PROVENANCE
from delivery.build.documents.provenance import subjects
from evals.report import EvalReport


def problems_with_documents(bundle: Bundle, documents: Mapping[str, bytes]) -> list[Problem]:
    """Documents of another bundle, or none that can be read; empty where all speak of this one."""
    problems = []
    for name, content in sorted(documents.items()):
        says = CHECKS.get(name)
        try:
            wrong = "is no document of a bundle" if says is None else says(bundle, content)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, yaml.YAMLError) as error:
            wrong = f"cannot be read: {type(error).__name__}"
        if wrong:
            problems.append(Problem(name, wrong))
    return problems


def _report(bundle: Bundle, content: bytes) -> str:
    try:
        report = EvalReport.model_validate_json(content)
    except ValidationError as error:
        return f"is no eval report: {error.error_count()} problem(s)"
    found = {name: (s.version, s.score, s.low, s.high, s.n) for name, s in report.suites.items()}
    held = {name: (s.version, s.score, s.low, s.high, s.n) for name, s in bundle.evals.items()}
    return "" if found == held else "its scores are not those of the bundle"


def _card(bundle: Bundle, content: bytes) -> str:
    header = yaml.safe_load(content.decode().split("---\n")[1])
    return _speaks_of(header["bundle"], bundle)


def _bill(bundle: Bundle, content: bytes) -> str:
    return _speaks_of(json.loads(content)["metadata"]["component"]["version"], bundle)


def _licenses(bundle: Bundle, content: bytes) -> str:
    return _speaks_of(content.decode().split("\n")[0].rpartition(" ")[2], bundle)


def _provenance(bundle: Bundle, content: bytes) -> str:
    same = json.loads(content)["subject"] == subjects(bundle)
    return "" if same else "its subjects are not this bundle and its files"


def _page(bundle: Bundle, content: bytes) -> str:
    said = re.search(rb'<meta name="slipway-bundle" content="([^"]*)">', content)
    return _speaks_of(said[1].decode() if said else "that it does not name", bundle)


def _speaks_of(digest: object, bundle: Bundle) -> str:
    return "" if digest == bundle.digest else f"it speaks of bundle {digest}"


CHECKS: dict[str, Callable[[Bundle, bytes], str]] = {
    BILL: _bill,
    EVAL_REPORT: _report,
    LICENSES: _licenses,
    MODEL_CARD: _card,
    PAGE: _page,
    PROVENANCE: _provenance,
}
