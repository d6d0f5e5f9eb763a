"""Request bodies: strict JSON into msgspec structs, with messages that name the field."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import msgspec
from litestar._openapi.schema_generation import SchemaCreator
from litestar.dto import AbstractDTO
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from ...errors import FieldError

_PATH = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>[^`]*)`)?$", re.DOTALL)


class _JSONBody(AbstractDTO[Any]):
    """Decodes a body with msgspec alone: no lax conversions, and one error for all that can be wrong with it."""

    decoder: ClassVar[msgspec.json.Decoder[Any]]

    def decode_bytes(self, value: bytes) -> Any:
        return decode(self.decoder, value)

    @classmethod
    def create_for_field_definition(cls, *args: Any, **kwargs: Any) -> None:
        """Nothing to prepare."""

    @classmethod
    def is_supported_model_type_field(cls, field_definition: FieldDefinition) -> bool:
        return True

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: SchemaCreator
    ) -> Reference | Schema:
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Any:
        return iter(())

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        return False


def json_body(kind: type[Any]) -> type[AbstractDTO[Any]]:
    """What a route gives as `dto=` to take a JSON body of this struct."""
    return type(f"{kind.__name__}Body", (_JSONBody,), {"decoder": msgspec.json.Decoder(kind)})


def decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """The body as the decoder's type.

    Raises:
        FieldError: it is not JSON, or not of that type; `param` names the field, e.g. "messages[0].role".
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FieldError(f"the body is not valid JSON: {error}", param=None) from None
    except RecursionError:
        raise FieldError("the body is nested too deeply", param=None) from None


def _explained(text: str) -> FieldError:
    match = _PATH.match(text)
    what = match["what"] if match else text
    path = (match["path"] or "").lstrip(".") if match else ""
    what = what[:1].lower() + what[1:]
    what = what.replace("`", "'")
    missing = re.search(r"missing required field '(.*?)'", what)
    if missing:
        name = f"{path}.{missing[1]}" if path else missing[1]
        return FieldError(f"'{name}' is required", param=name)
    if not path:
        return FieldError(f"the body is wrong: {what}", param=None)
    return FieldError(f"'{path}' is wrong: {what}", param=path)
