"""The gateway's admin API, as the release controller uses it."""

from types import TracebackType
from typing import Any, Self

import httpx

from configs.errors import Problem, SlipwayError
from configs.routing import RoutingTable
from delivery.traffic.pairs import PairPage
from delivery.traffic.records import RecordPage


class GatewayError(SlipwayError):
    """The gateway refused, or could not be reached; `status` is 0 when it could not."""

    def __init__(
        self, what: str, *, status: int = 0, where: str = "", cure: str = "", problems: tuple[Problem, ...] = ()
    ):
        super().__init__(what, where=where, cure=cure, problems=problems)
        self.status = status


class GatewayClient:
    """One gateway's admin listener. Every method but `ready` raises GatewayError."""

    def __init__(self, admin_url: str, token: str, timeout_s: float = 2.0):
        self._url = admin_url.rstrip("/")
        self._http = httpx.Client(
            base_url=self._url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout_s, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether it runs and accepts our token; it may have no table yet."""
        try:
            self.table()
        except GatewayError:
            return False
        return True

    def table(self) -> RoutingTable | None:
        """The table that it serves."""
        response = self._send("GET", "/admin/table", may_be_absent=True)
        return RoutingTable.model_validate_json(response.content) if response.status_code == 200 else None

    def put_table(self, table: RoutingTable) -> None:
        """Makes it serve this table, and grants the lease anew; the same table again does no harm.

        A lower revision, or the same one with other content, is refused (status 409).
        """
        self._send("PUT", "/admin/table", content=table.model_dump_json().encode())

    def renew(self, revision: int) -> None:
        """Grants the lease anew. Refused (status 409) if it serves another revision."""
        self._send("POST", "/admin/lease", json={"revision": revision})

    def records(self, after: int, limit: int = 5000) -> RecordPage:
        """What ended after this `seq`, oldest first, and what is under way."""
        response = self._send("GET", "/admin/records", params={"after": after, "limit": limit})
        return RecordPage.model_validate_json(response.content)

    def pairs(self, after: int, limit: int = 200) -> PairPage:
        """What both variants said to mirrored requests, oldest first, where the table has it kept."""
        response = self._send("GET", "/admin/pairs", params={"after": after, "limit": limit})
        return PairPage.model_validate_json(response.content)

    def _send(self, method: str, path: str, *, may_be_absent: bool = False, **content: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            what = f"the gateway's admin API cannot be reached: {error or type(error).__name__}"
            raise GatewayError(what, where=f"{method} {self._url}{path}", cure="is the gateway running?") from error
        if response.is_success or (may_be_absent and response.status_code == 404):
            return response
        raise _refused(response, f"{method} {self._url}{path}")


def _refused(response: httpx.Response, where: str) -> GatewayError:
    try:
        error = response.json()["error"]
        message = str(error["message"])
        problems = tuple(Problem(p["where"], p["what"], p["cure"]) for p in error["problems"])
    except (ValueError, KeyError, TypeError):
        message, problems = response.text[:200] or "no reason given", ()
    cure = "is this the token that the gateway was started with?" if response.status_code == 401 else ""
    return GatewayError(
        f"the gateway answers {response.status_code}: {message}",
        status=response.status_code,
        where=where,
        cure=cure,
        problems=problems,
    )
