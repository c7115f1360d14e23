"""The server's own description of its routes, made of what checks their bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from onetrunk import __version__
from onetrunk.serving.service import Endpoint

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_FAULTS = {"400": "The request is wrong.", "401": "The key is missing or wrong.", "403": "Not from here.",
           "404": "No such model.", "408": "The body came too slowly.", "413": "The body is too large.",
           "415": "The body is of another kind.", "429": "Too much is asked at once.",
           "503": "The server is stopping or out of memory."}  # fmt: skip


def document(endpoints: Sequence[Endpoint], keyed: bool) -> dict[str, Any]:
    """OpenAPI 3.1."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operation: dict[str, Any] = {
            "summary": endpoint.summary,
            "operationId": f"{endpoint.method.lower()}{endpoint.path.replace('/', '_').replace('.', '_')}",
            "responses": {"200": {"description": "The answer.", "content": {endpoint.answers: {}}}}
            | {status: _fault(text) for status, text in _FAULTS.items()},
        }
        if names := re.findall(r"{(\w+)}", endpoint.path):
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ]
        if endpoint.body is not None:
            schema = endpoint.body.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[endpoint.body.__name__] = schema
            reference = {"schema": {"$ref": f"#/components/schemas/{endpoint.body.__name__}"}}
            content = {media: reference if media == "application/json" else {} for media in endpoint.media}
            operation["requestBody"] = {"required": True, "content": content}
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    out: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Onetrunk", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if keyed:
        out["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        out["security"] = [{"key": []}]
    return out


def _fault(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
