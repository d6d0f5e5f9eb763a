"""Constructs of Jinja that chat templates use, each beside transformers' own function.

Text operations and the options of `tojson` (huggingface.js #1929, mistral.rs #2431), variables that are none
(huggingface.js #846, mlxcel #1597), `generation` tags (llama-cpp-python #2225, textgen #6985).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from lqmf_runner.engine.sandbox.chat_template import ChatTemplate
from lqmf_runner.errors import InvalidRequestError, ModelUnusableError
from lqmf_runner.types import Message

TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hé <b>'x'</b>\n\"y\" 猫"},
    {"role": "assistant", "content": "a,b,,c", "reasoning_content": "hm"},
    {"role": "user", "content": "  Bye  "},
]
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "b", "parameters": {"z": 1, "a": [1.0, None, "é"]}}},
    {"type": "function", "function": {"name": "a", "description": "x"}},
]
TURNS = "{% for m in messages %}{{ m.role }}|{{ m.content }}\n{% endfor %}"

MARKS = str.maketrans({"¶": "\n", "␍": "\r", "⇥": "\t"})
VARIABLES = ("tools", "documents", "unknown")
TESTS = (
    "", "is none", "is not none", "is defined", "is not defined", "== none", "!= none", "is iterable", "is mapping",
    "is string", "is sequence", "is boolean", "is false", "is undefined",
)  # fmt: skip
VALUES = ("messages", "tools", "{'b': 'é', 'a': {'d': [1, 2.5, none], 'c': true}}")
JSON_OPTIONS = (
    "", "true", "false", "ensure_ascii=true", "ensure_ascii=false", "indent=2", "indent=0", "indent='--'",
    "indent=none", "false, 4", "true, 2, (',', '=')", "false, none, (', ', ': '), true", "separators=(',', ':')",
    "separators=none", "separators=[' ,', ' : ']", "sort_keys=true", "sort_keys=1", "indent=2, separators=(',', ':')",
    "x=1", "separators=(',', ':'), sort_keys=true, ensure_ascii=true, indent=3",
)  # fmt: skip


def kinds() -> dict[str, list[str]]:
    """Templates by kind: those of constructs.txt, every question about a variable, every option of `tojson`."""
    text = (Path(__file__).parent / "constructs.txt").read_text()
    found: dict[str, list[str]] = {}
    for section in text.split("\n## ")[1:]:
        kind, *lines = section.strip("\n").split("\n")
        found[kind] = [line.translate(MARKS) for line in lines]
    found["guards"] += [
        f"{{% if {name} {test} %}}T{{% else %}}F{{% endif %}}" for name in VARIABLES for test in TESTS
    ]
    found["json"] = [f"{{{{ {value}|tojson({options}) }}}}" for value in VALUES for options in JSON_OPTIONS]
    return found


KINDS = kinds()
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_construct_gives_what_it_gives_in_transformers(kind: str, tools: Any) -> None:
    turns = msgspec.convert(TALK, tuple[Message, ...])
    rendered = 0
    for source in KINDS[kind]:
        template = source + "{% if tools %}{% endif %}" + TURNS
        where = f"{source!r} {'with' if tools else 'without'} tools"
        try:
            [theirs], _ = render_jinja_template(
                [TALK], tools=tools, chat_template=template, add_generation_prompt=True, **SPECIAL
            )
        except Exception as error:
            words = str(error) if "raise_exception('" in source else ""
            with pytest.raises((InvalidRequestError, ModelUnusableError)) as refusal:
                print(where, repr(ChatTemplate(template, SPECIAL).render(turns, tools=tools or ())))
            said = str(refusal.value)
        else:
            words = said = ""
            rendered += 1
            assert ChatTemplate(template, SPECIAL).render(turns, tools=tools or ()) == theirs, where
        assert words in said, where
    assert rendered > len(KINDS[kind]) / 2


MEMORY = (
    "{{ 'x' * 10**9 }}",
    "{{ 10**9 * 'x' }}",
    "{{ [1] * 10**9 }}",
    "{{ ('x' * 10000) * 10000 }}",
    "{{ 'x'.encode() * 10**9 }}",
    "{{ '%0900000000d' % 1 }}",
    "{{ '%.900000000f' % 1 }}",
    "{{ '%*d' % (900000000, 1) }}",
    "{{ '%0*d' % (900000000, 1) }}",
    "{{ '%%%900000000d' % 1 }}",
    "{{ '%(a)900000000s' % {'a': 1} }}",
    "{{ 'x'.encode() % 1 }}",
    "{{ '%900000000s'|format('x') }}",
    "{{ '{:>900000000}'.format(1) }}",
    "{{ '{:.900000000f}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 900000000) }}",
    "{{ '{:>{w}}'.format(1, w=900000000) }}",
    "{{ '{:>{0[1]}}'.format([1, 900000000]) }}",
    "{{ '{a:>900000000}'.format_map({'a': 1}) }}",
    "{{ 'x'.ljust(900000000) }}",
    "{{ 'x'.encode().ljust(900000000) }}",
    "{{ 'x'.zfill(900000000) }}",
    "{{ '\t'.expandtabs(900000000) }}",
    "{{ [1]|tojson(indent=900000000) }}",
    "{{ 'x'|center(900000000) }}",
    "{{ range(10**9)|list }}",
)


@pytest.mark.parametrize("source", MEMORY)
def test_what_would_fill_the_memory_is_refused(source: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"unsafe|OverflowError"):
        ChatTemplate(source, {}).render((Message("user", "x"),))
