"""Whose pods these are, and what they are told in secret. Two ledgers must never steer one environment's gateways."""

import hashlib
import hmac
import socket
from pathlib import Path

from configs.environment import Environment
from configs.errors import SlipwayError
from delivery.clients.kubernetes import ClusterError, Namespace
from tasks.serving.kubernetes.names import Place, Secrets
from tasks.serving.local import VLLM_KEY, environment_folder


def owner_of(environment: Environment, home: Path) -> str:
    """Names the ledger without saying how it is reached: controllers that share it take turns by its lease."""
    file = environment_folder(environment, home).absolute() / "ledger.sqlite"
    ledger = environment.ledger_url or f"{socket.gethostname()}:{file}"
    return f"ledger-{hashlib.sha256(ledger.encode()).hexdigest()[:12]}"


def require_owned(namespace: Namespace, place: Place, owner: str) -> None:
    """Raises ClusterError when what is in the namespace under these names is another ledger's."""
    lease = namespace.get("coordination.k8s.io/v1", "Lease", place.name)
    holder = str((lease or {}).get("spec", {}).get("holderIdentity") or "")
    if holder and holder != owner:
        raise ClusterError(
            f"environment {place.environment.name} in namespace {namespace.name} belongs to {holder}, not to {owner}",
            where=f"Lease {place.name}",
            cure="use the same ledger_url (or the same state folder) as whoever runs it, another `name` or another "
            f"namespace; if that ledger is gone for good: kubectl -n {namespace.name} delete lease {place.name}",
        )


def secrets_of(environment: Environment, admin_token: str, vllm_key: str) -> Secrets:
    """What pods get. The agents' token is made from the admin token, and says nothing of it."""
    if not vllm_key:
        raise SlipwayError(
            f"the environment variable {VLLM_KEY} is not set: every pod of the cluster could load adapters",
            where="environment.yaml: target",
            cure=f"make one: export {VLLM_KEY}=$(openssl rand -hex 32), and keep it for every command",
        )
    agent_token = hmac.new(admin_token.encode(), b"agent", hashlib.sha256).hexdigest()
    file, text = environment.gateway.api_keys, None
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise SlipwayError(f"{file} cannot be read: {error.strerror}", where="gateway.api_keys") from error
    return Secrets(admin_token, vllm_key, agent_token, text)
