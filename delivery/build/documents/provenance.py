"""Where a bundle comes from, as an in-toto statement with SLSA's provenance (https://slsa.dev/spec/v1.0/provenance).

It is shaped like SLSA's and unsigned: a signature over the image covers it. There is no time in it, so that a rebuild
gives the same bytes.
"""

from typing import Any

from configs.canonical import digest_of
from delivery.build.bundle import Bundle
from delivery.build.documents.origin import DocumentBasis, json_file

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
BUILD_TYPE, BUILDER = "urn:slipway:build:1", "urn:slipway:builder"
BUNDLE_FILE = "bundle.json"


def provenance(bundle: Bundle, origin: DocumentBasis) -> bytes:
    """The statement about the manifest (bundle.json, whose sha256 is the bundle's digest) and the bundle's files."""
    versions = {"slipway": origin.builder, **origin.trainer.get("versions", {})}
    statement = {
        "_type": STATEMENT,
        "subject": subjects(bundle),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _asked_for(bundle),
                "internalParameters": {"code": origin.trainer.get("code", {}), "dataset_code": bundle.dataset_code},
                "resolvedDependencies": _materials(bundle, origin),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": versions},
                "metadata": {"invocationId": digest_of(origin.trainer) if origin.trainer else "unknown"},
            },
        },
    }
    return json_file(statement)


def subjects(bundle: Bundle) -> list[dict[str, Any]]:
    """What the statement is about."""
    named = {BUNDLE_FILE: bundle.digest, **bundle.files}
    return [{"name": name, "digest": digest_set(digest)} for name, digest in sorted(named.items())]


def digest_set(digest: str) -> dict[str, str]:
    """in-toto's way to write a digest; one without an algorithm is a commit."""
    algorithm, colon, value = digest.partition(":")
    return {algorithm: value} if colon else {"gitCommit": digest}


def _asked_for(bundle: Bundle) -> dict[str, Any]:
    """The invocation: what somebody asked for, all of it part of the bundle's identity."""
    served = {
        "system_prompt": bundle.system_prompt,
        "temperature": bundle.temperature,
        "max_tokens": bundle.max_tokens,
        "chat_template_kwargs": bundle.chat_template_kwargs,
    }
    suites = {name: suite.version for name, suite in bundle.evals.items()}
    command = "slipway merge" if bundle.merged else "slipway build"
    return {"command": command, "route": bundle.route, "training": bundle.training, "served": served, "suites": suites}


def _materials(bundle: Bundle, origin: DocumentBasis) -> list[dict[str, Any]]:
    named = f"base model {bundle.base_model}, from {origin.base_source}"
    found: list[dict[str, Any]] = [{"name": named, "digest": digest_set(bundle.base_revision)}]
    if bundle.parent is not None:
        found.append({"name": "bundle, whose other form this is", "digest": digest_set(bundle.parent)})
    if bundle.dataset_version is not None:
        what = origin.dataset.name if origin.dataset else "unknown"
        found.append({"name": f"dataset version of {what}", "digest": digest_set(bundle.dataset_version)})
    if origin.dataset is not None:
        found += [{"name": f"source {one.name}", "digest": digest_set(one.digest)} for one in origin.dataset.sources]
    return found
