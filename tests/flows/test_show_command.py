"""`slipway show`: what a bundle is made of, and what lies in its image."""

from pathlib import Path

import pytest
from documents_of import eval_report
from typer.testing import CliRunner

from benchmarks.tiny_bundle import tiny_bundle, write_tiny_lora
from configs.errors import SlipwayError
from delivery.build.bundle import Bundle, SuiteScore
from delivery.build.documents.origin import DocumentBasis
from delivery.build.documents.written import documents
from delivery.clients.bundles.adapters import describe
from delivery.clients.bundles.images import write_bundle
from flows.cli.main import app


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    write_tiny_lora(tmp_path / "made", 1)
    scores = {"guiding": SuiteScore(version="v1", score=0.9, low=0.8, high=1.0, n=10)}
    made = tiny_bundle("Ask.", describe(tmp_path / "made")).model_copy(update={"evals": scores})
    origin = DocumentBasis(builder="0.1.0", base_source="base", report=eval_report())
    write_bundle(made, tmp_path / "made", tmp_path / "home", documents(made, origin))
    return made


def show(home: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["show", *words, "--home", str(home)])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_it_names_the_image_and_every_document(bundle: Bundle, tmp_path: Path) -> None:
    shown = show(tmp_path / "home", bundle.digest[7:15])
    assert bundle.digest in shown
    assert str(tmp_path / "home" / "bundles") in shown
    for name in ("README.md", "eval-report.json", "bom.cdx.json", "LICENSES.md", "provenance.intoto.json"):
        assert f"/models/{name} " in shown


def test_it_prints_one_document_as_it_is(bundle: Bundle, tmp_path: Path) -> None:
    assert show(tmp_path / "home", bundle.digest, "README.md").startswith("---\nbase_model: base\n")


def test_a_document_that_is_not_there_is_told_with_those_that_are(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SlipwayError, match=r"'x' is no document(.|\n)*LICENSES.md, README.md"):
        show(tmp_path / "home", bundle.digest, "x")


def test_a_bundle_of_before_says_that_it_has_none(tmp_path: Path) -> None:
    old = tiny_bundle("Ask.")
    write_bundle(old, None, tmp_path)
    assert "made before bundles had any" in show(tmp_path, old.digest)
