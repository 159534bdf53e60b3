"""The bill of materials, CycloneDX 1.6 JSON: the model with its model card, base model, data and training packages.

The library has no type for CycloneDX's model card (11.12); that part is written by its JSON schema, against which a
test validates the whole.
"""

import json
import re
import uuid
from typing import Any

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from configs.canonical import short
from delivery.build.bundle import Bundle, SuiteScore
from delivery.build.documents.origin import DocumentBasis, json_file

SPACE = uuid.UUID("7f6f3a63-8a0c-5c5e-9f5f-0f6a3f2f1c11")  # bundles' serial numbers are named within it
SHA256 = re.compile(r"^sha256:([0-9a-f]{64})$")


def bill(bundle: Bundle, origin: DocumentBasis) -> bytes:
    """bom.cdx.json; its serial number follows from the bundle's digest, and it bears no time."""
    model = _model(bundle, origin)
    parts = _parts(bundle, origin)
    bom = Bom(serial_number=uuid.uuid5(SPACE, bundle.digest), components=parts)
    bom.metadata.component = model
    bom.register_dependency(model, parts)
    written = json.loads(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    del written["metadata"]["timestamp"]
    written["metadata"]["component"]["modelCard"] = _model_card(bundle)
    return json_file(written)


def _model(bundle: Bundle, origin: DocumentBasis) -> Component:
    trained = bundle.trained
    return _component(
        ComponentType.MACHINE_LEARNING_MODEL,
        bundle.route,
        bundle.digest,
        origin.licenses.adapter if trained else origin.licenses.base_model,
        f"bundle:{bundle.digest}",
        {"slipway:merged" if bundle.merged else "slipway:adapter": trained.digest} if trained else {},
    )


def _parts(bundle: Bundle, origin: DocumentBasis) -> list[Component]:
    kind, said = ComponentType.MACHINE_LEARNING_MODEL, origin.licenses
    source = {"slipway:source": origin.base_source}
    parts = [_component(kind, bundle.base_model, bundle.base_revision, said.base_model, "base-model", source)]
    if bundle.dataset_version is not None:
        name = origin.dataset.name if origin.dataset else "unknown"
        sources = {f"slipway:source:{s.name}": s.digest for s in origin.dataset.sources} if origin.dataset else {}
        parts.append(_component(ComponentType.DATA, name, bundle.dataset_version, said.data, "dataset", sources))
    for name, version in sorted(origin.trainer.get("versions", {}).items()):
        purl = PackageURL(type="pypi", name=name, version=version)
        parts.append(
            Component(name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=f"pypi:{name}")
        )
    return parts


def _component(
    kind: ComponentType, name: str, version: str, spdx: str | None, ref: str, properties: dict[str, str]
) -> Component:
    found = SHA256.match(version)
    said = properties | ({} if spdx else {"slipway:license": "unknown"})
    return Component(
        name=name,
        version=version,
        type=kind,
        bom_ref=ref,
        licenses=[LicenseFactory().make_from_string(spdx)] if spdx else [],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=found[1])] if found else [],
        properties=[Property(name=key, value=value) for key, value in said.items()],
    )


def _model_card(bundle: Bundle) -> dict[str, Any]:
    text = [{"format": "text"}]
    parameters: dict[str, Any] = {"task": "text-generation", "inputs": text, "outputs": text}
    if bundle.training is not None and bundle.training.get("method", "sft") == "sft":
        parameters["approach"] = {"type": "supervised"}
    if bundle.dataset_version is not None:
        parameters["datasets"] = [{"ref": "dataset"}]
    served = {
        "slipway:system_prompt": bundle.system_prompt,
        "slipway:temperature": f"{bundle.temperature:g}",
        "slipway:max_tokens": str(bundle.max_tokens),
        **{f"slipway:training:{name}": json.dumps(value) for name, value in sorted((bundle.training or {}).items())},
    }
    return {
        "bom-ref": f"model-card:{short(bundle.digest)}",
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": [_metric(*one) for one in sorted(bundle.evals.items())]},
        "properties": [{"name": name, "value": value} for name, value in served.items()],
    }


def _metric(suite: str, found: SuiteScore) -> dict[str, Any]:
    metric: dict[str, Any] = {"type": suite, "value": "unjudged" if found.score is None else f"{found.score:.4f}"}
    if found.low is not None and found.high is not None:
        metric["confidenceInterval"] = {"lowerBound": f"{found.low:.4f}", "upperBound": f"{found.high:.4f}"}
    return metric
