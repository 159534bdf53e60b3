"""One namespace of a Kubernetes cluster over its API: what is applied by the server, listed and deleted there.

Applying is server-side and under a field manager of our own: what others own in a resource stays theirs, and what they
changed of ours is a conflict that is told, never overwritten.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from configs.errors import SlipwayError

TIMEOUT_S = (3.0, 15.0)  # to connect, and to an answer
PLURALS = {
    "ConfigMap": "configmaps",
    "Deployment": "deployments",
    "Event": "events",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "Lease": "leases",
    "NetworkPolicy": "networkpolicies",
    "Pod": "pods",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
}
Resource = Mapping[str, Any]


class ClusterError(SlipwayError):
    """The API server refused; the message carries its own words."""


class ClusterAwayError(ClusterError):
    """No usable answer: away, overloaded, or too slow. The same call may work later."""


class Namespace:
    """One namespace. Every method raises ClusterError. Safe to share between threads."""

    def __init__(self, api: Any, name: str, where: str):
        self._api = api
        self.name = name
        self.where = where

    def offers(self, group: str) -> tuple[str, ...]:
        """Versions of an API group, the server's preferred one first; none when it has no such group."""
        found = self._call("GET", f"/apis/{group}", f"say which versions of {group} it has", may_be_absent=True)
        return () if found is None else tuple(str(one["version"]) for one in found["versions"])

    def version(self) -> tuple[int, int]:
        """Of the server, e.g. (1, 31); (0, 0) when it was built without one."""
        found = self._call("GET", "/version", "tell its version") or {}
        major, minor = (str(found.get(key, "0")).rstrip("+") or "0" for key in ("major", "minor"))
        return int(major), int(minor)

    def require(self) -> None:
        """Raises ClusterError when the namespace is not there, is being deleted, or may not be looked at."""
        path = f"/api/v1/namespaces/{self.name}"
        found = self._call("GET", path, f"find namespace {self.name}", may_be_absent=True)
        if found is None:
            cure = f"make it, or have it made: kubectl create namespace {self.name}"
            raise ClusterError(f"there is no namespace {self.name}", where=self.where, cure=cure)
        if found["metadata"].get("deletionTimestamp"):
            raise ClusterError(
                f"namespace {self.name} is being deleted, with all that is in it",
                where=self.where,
                cure="wait until it is gone and make it anew, or name another one",
            )

    def apply(self, manifest: Resource, field_manager: str) -> None:
        """Makes it so. A field that another manager has changed is a conflict, and is left as it is."""
        path = f"{self._path(manifest)}/{manifest['metadata']['name']}"
        query = [("fieldManager", field_manager), ("force", "false")]
        self._call("PATCH", path, f"apply {_named(manifest)}", query, manifest)

    def list(
        self, api_version: str, kind: str, selector: str = "", timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """All of a kind that have these labels. `timeout_s`: of one who cannot wait as long as others."""
        path = self._path({"apiVersion": api_version, "kind": kind})
        query = [("labelSelector", selector)] if selector else []
        limit = TIMEOUT_S if timeout_s is None else (timeout_s, timeout_s)
        found = self._call("GET", path, f"list {PLURALS[kind]}", query, timeout_s=limit) or {}
        items: list[dict[str, Any]] = found.get("items") or []
        return items

    def get(self, api_version: str, kind: str, name: str) -> dict[str, Any] | None:
        """One by its name; None when there is none."""
        path = self._path({"apiVersion": api_version, "kind": kind})
        return self._call("GET", f"{path}/{name}", f"read {kind} {name}", may_be_absent=True)

    def delete(self, api_version: str, kind: str, name: str) -> bool:
        """Whether there was one. What belongs to it is deleted by the cluster, in the background."""
        path = self._path({"apiVersion": api_version, "kind": kind})
        query = [("propagationPolicy", "Background")]
        return self._call("DELETE", f"{path}/{name}", f"delete {kind} {name}", query, may_be_absent=True) is not None

    def _path(self, resource: Resource) -> str:
        version, plural = resource["apiVersion"], PLURALS[resource["kind"]]
        return f"/{'apis' if '/' in version else 'api'}/{version}/namespaces/{self.name}/{plural}"

    def _call(
        self,
        method: str,
        path: str,
        what: str,
        query: Any = (),
        body: Resource | None = None,
        *,
        may_be_absent: bool = False,
        timeout_s: tuple[float, float] | None = None,
    ) -> dict[str, Any] | None:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/apply-patch+yaml"  # JSON is YAML
        request = self._api.param_serialize(
            method, path, query_params=list(query), header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            answer = self._api.call_api(*request, _request_timeout=timeout_s or TIMEOUT_S)
            answer.read()
            if not 200 <= answer.status <= 299:
                raise ApiException(
                    status=answer.status, reason=answer.reason, body=answer.data.decode(errors="replace")
                )
        except ApiException as error:
            if error.status == 404 and may_be_absent:
                return None
            raise self._refused(error, what) from error
        except (HTTPError, OSError) as error:
            cure = "nothing was lost: the same command goes on once it answers"
            raise ClusterAwayError(
                f"the cluster's API server did not {what}: {_reason_of(error)}", where=self.where, cure=cure
            ) from error
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def _refused(self, error: Any, what: str) -> ClusterError:
        said = _its_words(error)
        text, where = f"the cluster's API server did not {what}: {said}", f"{self.where}, namespace {self.name}"
        if not error.status or error.status in (408, 429) or error.status >= 500:
            return ClusterAwayError(text, where=where, cure="it may do so later: repeat the command")
        cures = {
            401: "log in to the cluster again: it does not know who asks",
            403: "have this right granted: docs/kubernetes.md lists what `slipway up` and a controller need",
            404: "see that the namespace is there, and that the cluster is the one that is meant",
            409: "whoever else changes it must stop, or take `slipway` off: two must not own one field",
            422: "see the setting in environment.yaml that is behind this field",
        }
        return ClusterError(text, where=where, cure=cures.get(error.status, ""))


@lru_cache(maxsize=16)
def open_namespace(
    name: str, kubeconfig: Path | None = None, context: str | None = None, *, in_cluster: bool = False
) -> Namespace:
    """By a kubeconfig and one of its contexts, or from inside a pod. Raises ClusterError when there is no way in."""
    settings = client.Configuration()
    try:
        if in_cluster:
            config.load_incluster_config(client_configuration=settings)
        else:
            file = str(kubeconfig) if kubeconfig is not None else None
            config.load_kube_config(file, context, settings, persist_config=False)
    except (config.ConfigException, OSError, ValueError) as error:
        cure = "name a kubeconfig as target.kubeconfig or KUBECONFIG, and one of its contexts as target.context"
        raise ClusterError(
            f"there is no way into the cluster: {error}", where="environment.yaml: target", cure=cure
        ) from error
    settings.retries = False
    if not settings.verify_ssl:  # the kubeconfig says so, and its owner need not be told in every request
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return Namespace(client.ApiClient(settings), name, str(settings.host))


def _named(manifest: Resource) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _its_words(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])[:1000]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.status} {error.reason}"


def _reason_of(error: BaseException) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__
