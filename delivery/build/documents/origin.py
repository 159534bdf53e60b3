"""How a bundle came to be, as far as its manifest does not say it. What is not known stays unknown."""

import json
from typing import Any

from pydantic import Field

from configs.strict import Strict
from delivery.build.dataset import Manifest
from evals.report import EvalReport

MODEL_CARD, EVAL_REPORT, BILL = "README.md", "eval-report.json", "bom.cdx.json"
LICENSES, PROVENANCE, PAGE = "LICENSES.md", "provenance.intoto.json", "report.html"
NAMES = (MODEL_CARD, EVAL_REPORT, BILL, LICENSES, PROVENANCE, PAGE)
"""Below /models in the image; README.md is what a model hub shows of a folder."""


class Licenses(Strict):
    """SPDX expressions; None: nobody said."""

    adapter: str | None = None
    base_model: str | None = None
    data: str | None = None


class DocumentBasis(Strict):
    """What documents are made of, besides the manifest. Nothing in it knows a time, a person or a machine."""

    builder: str  # slipway's version
    base_source: str  # a name on the hub, a package, or the folder's served name
    licenses: Licenses = Licenses()
    dataset: Manifest | None = None
    report: EvalReport | None = None
    trainer: dict[str, Any] = Field(default_factory=dict)  # digests of code, versions of packages


def json_file(value: Any) -> bytes:
    """The same bytes for the same value, to be read by people too."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
