"""What users see when they get no answer: OpenAI's error shape, and a field that says who refused, gateway or model."""

import math
from typing import Any, Literal

import orjson

from delivery.gateway.http.messages import Response

RefusedBy = Literal["gateway", "model"]
JSON_HEADERS = {"Content-Type": "application/json"}


def error_body(
    message: str, *, kind: str, code: str | None, source: RefusedBy, param: str | None = None
) -> dict[str, dict[str, Any]]:
    """`{"error": {message, type, param, code, source}}`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code, "source": source}}


class ApiError(Exception):
    """The request ends here with an HTTP status and an error in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        source: RefusedBy = "gateway",
        kind: str = "invalid_request_error",
        retry_after_s: float | None = None,
    ):
        super().__init__(message)
        self.status = status
        self._headers = {"Retry-After": str(math.ceil(retry_after_s))} if retry_after_s is not None else {}
        self.body = error_body(message, kind=kind, code=code, source=source, param=param)

    def response(self, request_id: str = "") -> Response:
        """The HTTP response."""
        headers = {**JSON_HEADERS, **self._headers}
        if request_id:
            headers |= {"x-request-id": request_id, "x-slipway-request-id": request_id}
        return Response(self.status, orjson.dumps(self.body), headers)


def server_error(status: int, message: str, code: str, retry_after_s: float | None = None) -> ApiError:
    """The model could not be reached, or failed, and there is nobody left to ask."""
    return ApiError(status, message, code=code, kind="server_error", retry_after_s=retry_after_s)


def not_allowed(name: str, what: str) -> ApiError:
    """The route's clients may not set this parameter, or not so."""
    return ApiError(400, what, code="parameter_not_allowed", param=name)


def unknown_route(name: str, routes: list[str]) -> ApiError:
    """OpenAI's answer to a model that does not exist."""
    served = f" Served here: {', '.join(routes)}." if routes else " Nothing is served here yet."
    message = f"The model `{name[:100]}` does not exist.{served}"
    return ApiError(404, message, code="model_not_found", param="model")
