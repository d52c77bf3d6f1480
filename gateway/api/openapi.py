"""Describes the bare routes in the OpenAPI document, from the very types that validate their bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.api.raw import RawRoute

_REFERENCE = "#/components/schemas/{name}"
_ERROR = {"$ref": "#/components/schemas/Error"}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message"],
            "properties": {name: {"type": ["string", "null"]} for name in ("message", "type", "param", "code")},
        }
    },
}


def describe_raw_routes(app: FastAPI, routes: Mapping[str, RawRoute]) -> None:
    """Make `app.openapi()` tell of the bare routes too; the document is made when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            schemas["Error"] = _ERROR_SCHEMA
            found["components"].setdefault("securitySchemes", {})["key"] = {"type": "http", "scheme": "bearer"}
            for path, route in routes.items():
                found["paths"][path] = {"post": _operation(path, route, schemas)}
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _operation(path: str, route: RawRoute, schemas: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"type": "object"}
    if route.envelope is not None:
        (body,), components = msgspec.json.schema_components([route.envelope], ref_template=_REFERENCE)
        schemas.update(components)
    return {
        "operationId": path.strip("/").replace("/", "_"),
        "summary": (type(route).__doc__ or path).strip().splitlines()[0],
        "security": [{"key": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "The answer, or a stream of its parts",
                "content": {"application/json": {}, "text/event-stream": {}},
            },
            "4XX": {"description": "The request is at fault", "content": {"application/json": {"schema": _ERROR}}},
            "5XX": {"description": "Something behind is", "content": {"application/json": {"schema": _ERROR}}},
        },
    }
