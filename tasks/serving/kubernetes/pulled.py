"""Adapters that pods pull by themselves: which bundle holds each, and that the registry has it."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from configs.agent import AgentConfig
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.registry import PEM, Signatures, Signer
from delivery.clients.fresh_folder import explained_writes
from delivery.clients.registry import fetch, known
from delivery.clients.registry.errors import RegistryError
from delivery.clients.registry.reference import Reference
from delivery.clients.registry.wire import Wire
from tasks.release.published import push_bundle
from tasks.serving.target import AdapterOrigin

FOLDER = "pulled"  # in the environment's folder: what pods are told to pull for each adapter
CA_FILE = "ca.pem"


class Offer(NamedTuple):
    """A bundle that holds an adapter: its digest here and in the registry, and when its signatures have to count."""

    bundle: str
    digest: str
    as_of: float


def offer(environment: Environment, home: Path, folder: Path, adapter: str, origin: AdapterOrigin) -> None:
    """Notes where pods find the adapter. A bundle that the registry lacks is pushed first.

    What is noted once is asked for no more: a rollback waits for no registry. Raises RegistryError.
    """
    there = offers(folder, adapter)
    if any(one.bundle == origin.bundle for one in there):
        return
    noted = [Offer(origin.bundle, _in_registry(environment, home, origin.bundle), origin.as_of), *there]
    file = folder / FOLDER / f"{adapter}.json"
    with explained_writes(folder, "what pods are to pull"):
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps([one._asdict() for one in noted]), encoding="utf-8")
        fresh.replace(file)


def offers(folder: Path, adapter: str) -> list[Offer]:
    """The newest first."""
    try:
        said = json.loads((folder / FOLDER / f"{adapter}.json").read_text(encoding="utf-8"))
        return [Offer(str(one["bundle"]), str(one["digest"]), float(one["as_of"])) for one in said]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def agent_config(environment: Environment, folder: str) -> tuple[AgentConfig, str]:
    """What agents are told, with every public key written out; and the registry's private authority, if it has one.

    `folder` is where a pod finds the two files.
    """
    registry, ca_text = environment.registry, ""
    if registry.ca_file is not None:
        ca_text = _text(str(registry.ca_file), "environment.yaml: registry.ca_file")
        registry = registry.model_copy(update={"ca_file": Path(folder) / CA_FILE})
    signers = {name: _written_out(name, one) for name, one in environment.signatures.signers.items()}
    signatures = Signatures(required=environment.signatures.required, signers=signers)
    return AgentConfig(registry=registry.model_copy(update={"base_image": None}), signatures=signatures), ca_text


def _written_out(name: str, signer: Signer) -> Signer:
    where = f"environment.yaml: signatures.signers.{name}"
    texts = {key: getattr(signer, key) for key in ("public_key", "authority")}
    said = {key: text if PEM in text else _text(text, where) for key, text in texts.items() if text is not None}
    return signer.model_copy(update=said)


def _text(file: str, where: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SlipwayError(f"{file} cannot be read: {error}", where=where, cure="name a PEM file") from error


def _in_registry(environment: Environment, home: Path, bundle: str) -> str:
    """The digest by which the registry has the bundle."""
    repository = str(environment.registry.repository)
    host, _, path = repository.partition("/")
    seen = [one.reference for one in known.seen(home) if one.bundle == bundle and one.reference.host == host]
    wire = Wire(host, environment.registry)
    for reference in reversed([one for one in seen if one.path == path and one.digest is not None]):
        if _has(wire, reference):
            return str(reference.digest)
    return str(push_bundle(environment, home, bundle, None).reference.digest)


def _has(wire: Wire, reference: Reference) -> bool:
    try:
        fetch.manifest(wire, reference.by_digest())
    except RegistryError as error:
        if error.status == 404:
            return False
        raise
    return True
