"""The OpenAPI document: FastAPI knows paths and parameters, the table of routes the bodies, answers, problems and keys."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import CoreSchema

from stepwell.gateway.access import Access
from stepwell.gateway.documents import IngestProblem, Problem

if TYPE_CHECKING:
    from stepwell.gateway.routes import Route

SENDING = ("/e/{key}", "/hooks/{key_id}")
REFS = "#/components/schemas/{model}"
SECURITY: dict[Access, list[dict[str, list[str]]]] = {
    Access.ANYONE: [],
    Access.EVENT_KEY: [],
    Access.SIGNATURE: [],
    Access.API_KEY: [{"key": []}],
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    from stepwell.gateway.routes import ROUTES  # noqa: PLC0415  # the table names the route that serves this document

    document = app.openapi()
    asked = [(f"{route.method} {route.path}", route) for route in ROUTES]
    schemas = _Schemas(asked)
    for _, route in asked:
        operation = document["paths"][route.path][route.method.lower()]
        operation["responses"] = _responses(route, schemas)
        operation["security"] = SECURITY[route.access]
        if route.body is not None:
            operation["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": schemas.of(route.body, "validation")}},
            }
    document["components"] = {
        "schemas": schemas.definitions,
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "The gateway's API key, if it has one."}},
    }
    return document


class _Schemas:
    """JSON schemas of all documents, with their shared parts in one place."""

    def __init__(self, asked: list[tuple[str, "Route"]]) -> None:
        wanted: list[tuple[Any, JsonSchemaMode]] = [(Problem, "serialization"), (IngestProblem, "serialization")]
        for _, route in asked:
            wanted.extend((model, "serialization") for model in route.answers.values())
            if route.body is not None:
                wanted.append((route.body, "validation"))
        inputs: list[tuple[str, JsonSchemaMode, CoreSchema]] = [
            (str(model), mode, TypeAdapter[Any](model).core_schema) for model, mode in wanted
        ]
        self._made, self.definitions = GenerateJsonSchema(ref_template=REFS).generate_definitions(inputs)

    def of(self, model: Any, mode: JsonSchemaMode = "serialization") -> Any:
        return self._made[str(model), mode]


def _responses(route: "Route", schemas: _Schemas) -> dict[str, Any]:
    told: dict[str, Any] = {
        str(status): {"description": HTTPStatus(status).phrase, "content": {route.kind: {"schema": schemas.of(model)}}}
        for status, model in route.answers.items()
    }
    for status in _problems(route):
        model = IngestProblem if route.path in SENDING and status in {400, 403, 409, 413} else Problem
        told[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": schemas.of(model)}},
        }
    return told


def _problems(route: "Route") -> list[int]:
    """The statuses that a route may refuse with: its own, and those of what stands before it."""
    locked = [] if route.access is Access.ANYONE else [401, 429]
    unsure = [] if route.path == "/health" else [503]
    return sorted({400, 403, 422, 500, *route.problems, *locked, *unsure})
