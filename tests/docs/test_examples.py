"""Examples of other projects' resources are valid by those projects' own schemas, where these are at hand."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from places import ROOT

SCHEMAS = ROOT.parent / "shared" / "schemas"
EXAMPLES = {
    "argo-cd-application.yaml": "argo-cd-application.yaml",
    "argo-rollouts-analysis.yaml": "argo-rollouts-analysistemplate.yaml",
    "flagger-canary.yaml": "flagger.yaml",
    "kargo-promotion.yaml": "kargo-stage.yaml",
    "kargo-stage.yaml": "kargo-stage.yaml",
    "inferencepool.yaml": "inferencepool.yaml",
    "kargo-warehouse.yaml": "kargo-warehouse.yaml",
    "kserve-bundle.yaml": "kserve-inferenceservice.yaml",
    "llm-d-modelrewrite.yaml": "llm-d-inferencemodelrewrite.yaml",
    "trainjob.yaml": "kubeflow-trainjob.yaml",
}


def strict(schema: Any) -> Any:
    """A CRD's schema as JSON Schema that knows no field beyond it."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(value) for name, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    is_closed = "properties" in schema and isinstance(schema["properties"], dict)
    if is_closed and not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
        found["additionalProperties"] = False
    return found


def schema_of(example: dict[str, Any], crd: Path) -> Any:
    known = {one["spec"]["names"]["kind"]: one for one in yaml.load_all(crd.read_text(), yaml.CSafeLoader) if one}
    versions = known[example["kind"]]["spec"]["versions"]
    wanted = example["apiVersion"].rpartition("/")[2]
    [found] = [one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == wanted]
    whole = strict(found)
    whole["properties"]["metadata"] = {"type": "object"}
    return whole


def deepest(part: dict[str, Any]) -> dict[str, Any]:
    """The first mapping inside, as far down as they go."""
    inner = next((one for one in part.values() if isinstance(one, dict)), None)
    return part if inner is None else deepest(inner)


@pytest.mark.parametrize(("name", "crd"), EXAMPLES.items())
def test_an_example_is_valid_and_a_wrong_field_in_it_would_be_found(name: str, crd: str) -> None:
    if not (SCHEMAS / crd).exists():
        pytest.skip(f"there is no schema to hold {name} against: {SCHEMAS / crd}")
    example = yaml.safe_load((ROOT / "docs" / "examples" / name).read_text())
    held = jsonschema.Draft202012Validator(schema_of(example, SCHEMAS / crd))
    held.validate(example)
    deepest(example["spec"])["modell"] = {}
    with pytest.raises(jsonschema.ValidationError, match="modell"):
        held.validate(example)


def test_every_example_is_held_against_a_schema() -> None:
    assert {path.name for path in (ROOT / "docs" / "examples").glob("*.*")} == set(EXAMPLES)
