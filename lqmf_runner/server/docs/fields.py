"""JSON schemas as rows for readers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

_DEEPEST = 6
_SIZES_OF_INTEGERS = (2**31 - 1, -(2**63), 2**63 - 1)
_LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "matches {}",
}


@dataclass(frozen=True)
class Field:
    """A field of an object: its type in words, its limits, and the fields of what is in it."""

    name: str
    type: str
    required: bool
    limits: str
    default: str
    description: str
    fields: tuple[Field, ...]


def fields_of(schema: Mapping[str, Any], components: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields of a schema's object, or of the objects it lists; none if it has no named ones."""
    return _fields(schema, components, 0)


def _fields(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int) -> tuple[Field, ...]:
    found: list[Field] = []
    options = _options(schema, components) if depth < _DEEPEST else []
    several = sum("properties" in option for option in options) > 1
    for option in options:
        own = _own_fields(option, components, depth)
        if several and own and not own[0].description:  # says which of the objects begins here
            own[0] = replace(own[0], description=option.get("description", ""))
        found += own
        for inner in (option.get("items"), option.get("additionalProperties")):
            if isinstance(inner, Mapping):
                found += _fields(inner, components, depth)
    return tuple(found)


def _own_fields(option: Mapping[str, Any], components: Mapping[str, Any], depth: int) -> list[Field]:
    """Those of one object, the required ones first."""
    required = option.get("required", ())
    properties = sorted(option.get("properties", {}).items(), key=lambda item: item[0] not in required)
    return [_field(name, inner, name in required, components, depth) for name, inner in properties]


def _field(
    name: str, schema: Mapping[str, Any], required: bool, components: Mapping[str, Any], depth: int
) -> Field:
    options = [option for option in _options(schema, components) if option.get("type") != "null"]
    descriptions = [schema.get("description"), *(option.get("description") for option in options)]
    default = schema.get("default")
    return Field(
        name=name,
        type=" or ".join(dict.fromkeys(_type(option, components) for option in options)) or "anything",
        required=required,
        limits=", ".join(text for option in options for text in _limits(option)),
        default="" if default is None or required else json.dumps(default),
        description=next((text for text in descriptions if text), ""),
        fields=_fields(schema, components, depth + 1),
    )


def _options(schema: Mapping[str, Any], components: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a value may be, with references followed."""
    if reference := schema.get("$ref"):
        return _options(components[reference.rpartition("/")[2]], components)
    options = schema.get("anyOf") or schema.get("oneOf")
    if options is None:
        return [schema]
    return [found for option in options for found in _options(option, components)]


def _type(schema: Mapping[str, Any], components: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return "list of " + _types(schema.get("items", {}), components)
    if values := schema.get("additionalProperties"):
        return "object of " + _types(values, components)
    return str(schema.get("type", "anything"))


def _types(schema: Mapping[str, Any], components: Mapping[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_type(option, components) for option in _options(schema, components)))


def _limits(schema: Mapping[str, Any]) -> list[str]:
    given = {**(schema.get("additionalProperties") or {}), **schema}
    return [
        text.format(given[name])
        for name, text in _LIMITS.items()
        if name in given and given[name] not in _SIZES_OF_INTEGERS
    ]
