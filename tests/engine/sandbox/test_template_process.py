"""Chat templates that one call of C code would keep busy, or fill the memory with: they cost their own process only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from lqmf_runner.engine.sandbox.template_process import TemplateProcess
from lqmf_runner.errors import InvalidRequestError, ModelUnusableError
from lqmf_runner.types import Message

from ..test_local import gone

TALK = (Message("user", "Hi"),)
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
GROW = "{% if messages[0].content == 'Grow' %}{% set ns = namespace(s='a', l=[]) %}BODY{% endif %}" + TURNS
DOUBLE = "{% for i in range(23) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
NEST = "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}"
LOOP = "{% for i in range(99999) %}"
HOSTILE = {
    "a loop without end": LOOP * 3 + "{% endfor %}" * 3,
    "JSON of a list that holds itself": NEST + "{{ ns.l|tojson }}",
    "the text of a list that holds itself": NEST + "{{ ns.l|string|length }}",
    "a huge join": DOUBLE + "{{ range(2000)|join(ns.s)|length }}",
    "a huge replacement": DOUBLE + "{{ ns.s.replace('a', 'b' ~ messages[0].content ~ ns.s[:4000])|length }}",
}


@pytest.fixture
def process() -> Iterator[TemplateProcess]:
    process = TemplateProcess()
    yield process
    process.close()


def test_it_renders(process: TemplateProcess) -> None:
    process.open({"default": TURNS + "{{ tools|tojson }}{{ bos_token }}{{ mood }}"}, {"bos_token": "<s>"})
    assert process.knows_tools
    text = process.render(TALK, tools=[{"name": "f"}], options={"mood": "good"})
    assert text == 'user: Hi\n[{"name": "f"}]<s>good'


def test_its_refusals_come_back_as_they_are(process: TemplateProcess) -> None:
    with pytest.raises(ModelUnusableError, match="not valid"):
        process.open({"default": "{% if %}"}, {})
    process.open({"default": "{{ raise_exception('no system role') }}"}, {})
    with pytest.raises(InvalidRequestError, match="no system role"):
        process.render(TALK, tools=(), options={})


def test_a_template_that_cannot_be_compiled_is_unusable(process: TemplateProcess) -> None:
    grow = "{{ 'a'" + "|replace('a', '" + 1000 * "a" + "')"
    with pytest.raises(ModelUnusableError, match="chat template"):
        process.open({"default": grow + 4 * ("|replace('a', '" + 1000 * "a" + "')") + " }}"}, {})


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_is_ended_and_the_next_conversation_is_rendered(
    body: str, process: TemplateProcess
) -> None:
    process.open({"default": GROW.replace("BODY", body)}, {})
    with pytest.raises(InvalidRequestError, match="chat template"):
        process.render((Message("user", "Grow"),), tools=(), options={})
    assert process.render(TALK, tools=(), options={}) == "user: Hi\n"


def test_what_a_dead_worker_leaves_rendering_ends_by_itself() -> None:
    source = GROW.replace("BODY", NEST + "{{ ns.l|tojson }}")
    script = (
        "import os, sys\n"
        "from lqmf_runner.engine.sandbox.template_process import Render, TemplateProcess\n"
        "from lqmf_runner.types import Message\n"
        "process = TemplateProcess()\n"
        "process.open({'default': sys.argv[1]}, {})\n"
        "process._send(Render((Message('user', 'Grow'),), (), {}, True, False))\n"
        "print(process.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, source], stdout=subprocess.PIPE, timeout=120, check=True
    )
    assert gone(int(done.stdout), seconds=120)
