"""What a text must be, as OpenAI's API asks for it (`response_format`) and as vLLM's does (`structured_outputs`)."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from onetrunk.core.config import Config
from onetrunk.core.errors import UsageError
from onetrunk.core.grammar import Grammar
from onetrunk.serving.request_errors import bad

_ANY_OBJECT = {"type": "object"}


class JsonSchema(Config):
    schema_: dict[str, Any] = Field(alias="schema", description="The schema itself.")
    name: str = Field("answer", max_length=64)
    description: str | None = None
    strict: bool | None = Field(None, description="What is written always follows the schema, whatever this says.")


class ResponseFormat(Config):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Config):
    json_: dict[str, Any] | str | None = Field(None, alias="json", description="A JSON schema, or the text of one.")
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = Field(None, min_length=1, max_length=1000)


def grammar_of(form: ResponseFormat | None, outputs: StructuredOutputs | None) -> Grammar | None:
    """None where any text will do. Raises RequestError for what is asked twice, and for what is no grammar."""
    if form is not None and form.type != "text" and outputs is not None:
        raise bad("Expected either response_format or structured_outputs, found both.", "structured_outputs")
    where = "response_format" if outputs is None else "structured_outputs"
    try:
        return _of_form(form) if outputs is None else _of_outputs(outputs)
    except UsageError as error:
        raise bad(f"{where}: {error}", where) from None


def _of_form(form: ResponseFormat | None) -> Grammar | None:
    if form is None:
        return None
    if (form.json_schema is not None) != (form.type == "json_schema"):
        raise UsageError("The type json_schema comes with the key json_schema, and the others come without it.")
    if form.json_schema is not None:
        return Grammar.json_schema(form.json_schema.schema_)
    return Grammar.json_schema(_ANY_OBJECT) if form.type == "json_object" else None


def _of_outputs(outputs: StructuredOutputs) -> Grammar:
    values = outputs.model_dump(by_alias=True)
    asked = [name for name, value in values.items() if value is not None and value is not False]
    if len(asked) != 1:
        raise UsageError(f"Expected one of {', '.join(values)}, found {' and '.join(asked) or 'none'}.")
    if outputs.choice is not None:
        return Grammar.choice(outputs.choice)
    if outputs.regex is not None:
        return Grammar.regex(outputs.regex)
    return Grammar.json_schema(_ANY_OBJECT if outputs.json_ is None else _read(outputs.json_))


def _read(schema: dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(schema, dict):
        return schema
    try:
        read = json.loads(schema)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise UsageError("Expected a JSON schema as an object, or as the text of one.")
    return read
