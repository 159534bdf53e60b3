"""The page that says what the users' listener takes and gives: `GET /openapi.json`."""

from typing import Any

from delivery.gateway.openai.endpoints.chat import ROLES
from delivery.gateway.openai.endpoints.endpoint import Endpoint
from delivery.gateway.openai.endpoints.known import ENDPOINTS
from delivery.gateway.records.feedback import PATH as FEEDBACK_PATH
from delivery.gateway.records.feedback import Opinion

ERRORS = {  # of what reaches a model
    400: "The gateway or the model refuses the request as it is",
    401: "No valid API key",
    404: "No such route for this key, or not at this endpoint",
    405: "Not with this method",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is compressed",
    422: "The model refuses the request as it is",
    429: "The key's budget is spent, or the model has too much to do; see Retry-After",
    502: "No variant could answer",
    503: "The gateway has too much to do; see Retry-After",
    504: "The model did not answer in time",
}
OF_FEEDBACK = {
    400: "No opinion, or not a well-formed one",
    404: "No such answer is remembered for this key",
    409: "The answer was rated otherwise before",
}
TEXT, NUMBER, WHOLE, FLAG = {"type": "string"}, {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
ANYTHING: dict[str, Any] = {}
MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {"role": {"enum": sorted(ROLES)}, "content": ANYTHING},
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "model": {**TEXT, "description": "the name of a route"},
    "messages": {"type": "array", "minItems": 1, "items": MESSAGE},
    "prompt": {"anyOf": [{**TEXT, "minLength": 1}, {"type": "array", "minItems": 1}]},
    "input": {"anyOf": [{**TEXT, "minLength": 1}, {"type": "array", "minItems": 1}]},
    "stream": {"type": ["boolean", "null"]},
    "stream_options": {"type": ["object", "null"], "properties": {"include_usage": FLAG}},
    "user": {"type": ["string", "null"]},
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "source"],
            "properties": {
                "message": TEXT,
                "type": TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "source": {"enum": ["gateway", "model"], "description": "who refused"},
            },
        }
    },
}
MODEL = {
    "type": "object",
    "required": ["id", "object"],
    "properties": {"id": TEXT, "object": {"const": "model"}, "created": WHOLE, "owned_by": TEXT},
}
MODELS = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": MODEL}},
}
EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": TEXT},
    "description": "one of the stream's events",
}
GIVEN = {
    "type": "object",
    "required": ["object", "request_id", "rating", "escalated"],
    "properties": {
        "object": {"const": "feedback"},
        "request_id": TEXT,
        "rating": {"type": ["integer", "null"]},
        "escalated": FLAG,
    },
}
STATUS = {"type": "object", "required": ["status"], "properties": {"status": TEXT}}
NAME = {"name": "name", "in": "path", "required": True, "schema": {**TEXT, "minLength": 1}}


def page() -> dict[str, Any]:
    """The whole page, as an object for JSON."""
    paths: dict[str, Any] = {endpoint.path: {"post": _ask(endpoint)} for endpoint in ENDPOINTS}
    paths[FEEDBACK_PATH] = {"post": _tell()}
    paths["/v1/models"] = {"get": _get("The routes that this key may ask", MODELS, 401)}
    paths["/v1/models/{name}"] = {"get": {**_get("One route", MODEL, 401, 404), "parameters": [NAME]}}
    paths["/healthz"] = {"get": _get("The process lives", STATUS)}
    ready = _get("Requests are taken", STATUS)
    ready["responses"]["503"] = _answer("It drains, or has no route yet", STATUS)
    paths["/readyz"] = {"get": ready}
    paths["/openapi.json"] = {"get": _get("This page", {"type": "object"})}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Slipway's gateway", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _ask(endpoint: Endpoint) -> dict[str, Any]:
    body = {
        "type": "object",
        "required": ["model", endpoint.content],
        "properties": {name: PARAMETERS.get(name, ANYTHING) for name in sorted(endpoint.parameters)},
        "additionalProperties": False,
    }
    answer = _answer("The answer, under the route's name", {"type": "object"})
    if "stream" in endpoint.parameters:
        answer["content"]["text/event-stream"] = {"schema": EVENT}
    user = {"name": "x-slipway-user", "in": "header", "schema": TEXT, "description": "whom the share is about"}
    return {
        "summary": f"As OpenAI's {endpoint.path}",
        "parameters": [user],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": answer, **_errors(*ERRORS)},
    }


def _tell() -> dict[str, Any]:
    body = Opinion.model_json_schema()
    return {
        "summary": "What a user says about an answer: a rating, an escalation, or both",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": _answer("What counts now", GIVEN), **_errors(401, 405, 408, 413, 503), **_rated()},
    }


def _rated() -> dict[str, Any]:
    return {str(status): _error(why) for status, why in OF_FEEDBACK.items()}


def _get(summary: str, schema: dict[str, Any], *errors: int) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _answer(summary, schema), **_errors(405, *errors)}}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): _error(ERRORS[status]) for status in statuses}


def _error(description: str) -> dict[str, Any]:
    return _answer(description, {"$ref": "#/components/schemas/Error"})


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
