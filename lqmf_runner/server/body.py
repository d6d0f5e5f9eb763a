"""JSON bodies, decoded by msgspec within Litestar."""

from __future__ import annotations

from typing import Any, ClassVar

from litestar._openapi.schema_generation import SchemaCreator
from litestar.dto import AbstractDTO
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from ..openai_api.bodies.body import decode


class _JSONBody(AbstractDTO[Any]):
    """Decodes a body with msgspec only: strict conversions, and one error with everything that is wrong."""

    kind: ClassVar[type[Any]]

    def decode_bytes(self, value: bytes) -> Any:
        return decode(self.kind, value)

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
    """The `dto=` of a Litestar handler that takes a JSON body of this type."""
    return type(f"{kind.__name__}Body", (_JSONBody,), {"kind": kind})
