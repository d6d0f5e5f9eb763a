from __future__ import annotations

from lqmf_runner.server.docs.fields import fields_of


def test_fields_say_what_they_take():
    components = {
        "Inner": {"type": "object", "properties": {"x": {"type": "number", "minimum": 0, "maximum": 1}}},
        "Self": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Self"}}},
    }
    schema = {
        "type": "object",
        "required": ["b"],
        "properties": {
            "a": {"anyOf": [{"$ref": "#/components/schemas/Inner"}, {"type": "null"}], "default": None},
            "b": {
                "type": "array",
                "items": {"enum": ["one", 2]},
                "maxItems": 3,
                "description": "two of them",
            },
            "c": {
                "type": "object",
                "additionalProperties": {"type": "number", "minimum": -100},
                "default": {},
            },
            "d": {"$ref": "#/components/schemas/Self"},
        },
    }
    b, a, c, d = fields_of(schema, components)
    assert (b.name, b.required, b.type) == ("b", True, 'list of "one" or 2')
    assert (b.limits, b.description) == ("at most 3", "two of them")
    assert (a.type, a.default, [(x.name, x.limits) for x in a.fields]) == ("object", "", [("x", "≥ 0, ≤ 1")])
    assert (c.type, c.limits, c.default) == ("object of number", "≥ -100", "{}")
    assert d.fields[0].name == "next"


def test_objects_that_a_value_may_be_are_told_apart():
    """Those in an object's values as well; a required field shows no default."""
    components = {
        "A": {
            "description": "First.",
            "properties": {"a": {"type": "string", "default": ""}},
            "required": ["a"],
        },
        "B": {"description": "Second.", "properties": {"b": {"type": "null", "description": "own"}}},
    }
    either = {"anyOf": [{"$ref": "#/components/schemas/A"}, {"$ref": "#/components/schemas/B"}]}
    schema = {"properties": {"q": {"type": "object", "additionalProperties": either}}}
    (q,) = fields_of(schema, components)
    assert q.type == "object of anything"
    assert [(field.name, field.default, field.description) for field in q.fields] == [
        ("a", "", "First."),
        ("b", "", "own"),
    ]
