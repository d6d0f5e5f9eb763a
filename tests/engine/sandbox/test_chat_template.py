"""Chat templates come from strangers: they render what honest ones should, and get away with nothing."""

from __future__ import annotations

import time

import pytest

from lqmf_runner.engine.sandbox.chat_template import ChatTemplate
from lqmf_runner.errors import InvalidRequestError, ModelUnusableError
from lqmf_runner.types import Message

TALK = (
    Message("system", "Be brief."),
    Message("user", "Hi"),
    Message("assistant", "Hello"),
    Message("user", "Bye"),
)

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
    '{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}'
    '{{- "<|start_header_id|>system<|end_header_id|>\n\n" + system_message + "<|eot_id|>" }}'
    "{%- for message in messages %}"
    "{%- if not (message.role == 'ipython' or 'tool_calls' in message) %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim "
    "+ '<|eot_id|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
MISTRAL = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}"
    "{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
    "{{- bos_token }}{%- for message in loop_messages %}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{%- endif %}"
    "{%- if message['role'] == 'user' %}"
    "{%- if loop.last and system_message is defined %}"
    "{{- '[INST] ' + system_message + '\n\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] + eos_token}}{%- endif %}{%- endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
TOOLS = (
    "{%- if tools %}{{- '<|im_start|>system\n# Tools\n' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}"
    "{{- '<|im_end|>\n' }}{%- endif %}{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + ('/' + message.name if message.name else '') + '\n' + message.content }}"
    "{%- for call in message.tool_calls or [] %}{%- if call.function %}{%- set call = call.function %}{%- endif %}"
    '{{- \'<tool_call>{"name": "\' + call.name + \'", "arguments": \' }}{{- call.arguments | tojson }}'
    "{{- '}</tool_call>' }}{%- endfor %}"
    "{%- if message.tool_call_id %}{{- '#' + message.tool_call_id }}{%- endif %}{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think></think>' }}{%- endif %}"
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Ulm"}}}
TOOL_TALK = (
    Message("user", "Is it raining in Ulm?"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "yes", name="weather", tool_call_id="c1"),
)
GROW = "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = STEP %}{% endfor %}{{ ns.s|length }}"


def render(source: str, messages: tuple[Message, ...] = TALK, **tokens: str) -> str:
    return ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"} | tokens).render(messages)


def test_chatml() -> None:
    assert render(CHATML) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(CHATML, TALK[1:2]).startswith("<|im_start|>system\nYou are helpful.<|im_end|>\n")


def test_llama_3() -> None:
    head = "<|start_header_id|>{}<|end_header_id|>\n\n{}"
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")]
    body = "".join(head.format(role, text) + "<|eot_id|>" for role, text in turns)
    assert render(LLAMA3) == "<s>" + body + head.format("assistant", "")


def test_mistral() -> None:
    assert render(MISTRAL) == "<s>[INST] Hi[/INST] Hello</s>[INST] Be brief.\n\nBye[/INST]"


def test_gemma() -> None:
    assert render(GEMMA, TALK[1:]) == (
        "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize(
    "source", [CHATML, LLAMA3, MISTRAL, GEMMA], ids=["chatml", "llama3", "mistral", "gemma"]
)
def test_it_renders_what_transformers_renders(source: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = TALK[1:]
    plain = [{"role": m.role, "content": m.content} for m in turns]
    theirs, _ = render_jinja_template(
        [plain], chat_template=source, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    assert render(source, turns) == theirs[0]


def test_tools_and_their_calls_render_as_in_transformers() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = [
        {"role": "user", "content": "Is it raining in Ulm?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "yes", "name": "weather", "tool_call_id": "c1"},
    ]
    theirs, _ = render_jinja_template(
        [turns], tools=[WEATHER], chat_template=TOOLS, enable_thinking=False, add_generation_prompt=True
    )
    options = {"enable_thinking": False}
    assert ChatTemplate(TOOLS, {}).render(TOOL_TALK, tools=[WEATHER], options=options) == theirs[0]
    assert "weather" in theirs[0]
    assert theirs[0].endswith("#c1<|im_end|>\n<think></think>")


@pytest.mark.parametrize("source", [CHATML, LLAMA3, MISTRAL, GEMMA])
def test_tools_for_a_template_that_knows_none_are_refused(source: str) -> None:
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    assert not template.knows_tools
    with pytest.raises(InvalidRequestError, match="knows no tools"):
        template.render(TALK[1:], tools=[WEATHER])
    assert template.render(TALK[1:], tools=())


def test_a_template_that_sets_tools_itself_knows_them() -> None:
    source = (
        "{% if custom is defined %}{% set tools = custom %}{% endif %}{% if tools %}{{ tools }}{% endif %}"
    )
    assert ChatTemplate(source, {}).knows_tools
    assert not ChatTemplate("{{ messages[0].tools }}{{ 'tools' }}", {}).knows_tools


@pytest.mark.parametrize(
    "name",
    [
        "messages", "tools", "add_generation_prompt", "continue_final_message", "bos_token", "eos_token", "pad_token",
        "raise_exception", "strftime_now", "namespace", "range", "chat_template", "tokenize",
    ],
)  # fmt: skip
def test_an_option_cannot_replace_what_the_program_hands_in(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"'{name}'"):
        ChatTemplate(MISTRAL, {"eos_token": "</s>"}).render(TALK, options={name: "smuggled"})


@pytest.mark.parametrize("name", ["self", "loop", "args", "environment", "__class__", "not a name", ""])
def test_an_odd_option_harms_nothing(name: str) -> None:
    assert ChatTemplate(CHATML, {}).render(TALK, options={name: {"x": 1}}) == render(CHATML)


def test_what_honest_templates_use_works() -> None:
    source = (
        "{%- for m in messages %}{%- if loop.first %}{% continue %}{% endif %}{{ m.role[:2] }}{% endfor %}"
        " {{ {'a': 'é'}|tojson }} {{ 'a' ~ 1 ~ none }} {{ '{} {}'.format(1, 2) }} {{ '%02d'|format(7) }}"
        " {{ 'a,b'.split(',')|join('+') }} {{ (2 * 3 + 1) % 4 }} {{ [1] + [2] }} {{ 'x'.upper() }}"
    )
    assert render(source, TALK[:2]) == 'us {"a": "é"} a1None 1 2 07 a+b 3 [1, 2] X'


def test_a_conversation_can_be_rendered_without_an_opening_for_the_answer() -> None:
    text = ChatTemplate(CHATML, {}).render(TALK, add_generation_prompt=False)
    assert text.endswith("<|im_start|>user\nBye<|im_end|>\n")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['os'] }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].clear() }}",
        "{{ self.__init__.__globals__.__builtins__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.getcwd() }}",
    ],
)
def test_python_is_out_of_reach(source: str) -> None:
    with pytest.raises(InvalidRequestError, match="chat template"):
        render(source)


@pytest.mark.parametrize(
    "source",
    ["{{ ''|attr('__class__') }}", "{{ '{0.__class__.__mro__}'.format(1) }}", "{{ ''['__class__'] }}"],
)
def test_a_back_door_to_python_gives_nothing(source: str) -> None:
    try:
        text = render(source)
    except InvalidRequestError:
        return
    assert "class" not in text


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%0900000000d' % 1 }}",
        "{{ '%0900000000d'|format(1) }}",
        "{{ '%*d'|format(900000000, 1) }}",
        "{{ '{:>900000000}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 900000000) }}",
        "{{ 'x'.ljust(900000000) }}",
        "{{ 'x'|center(900000000) }}",
        "{{ range(10**9)|list }}",
        "{{ 'x'|indent(900000000, true) }}",
        GROW.replace("STEP", "ns.s ~ ns.s"),
        GROW.replace("STEP", "ns.s + ns.s"),
        GROW.replace("'x'", "[1]").replace("STEP", "ns.s + ns.s"),
        GROW.replace("'x'", "10").replace("STEP", "ns.s * ns.s"),
        "{% for a in range(99999) %}{{ messages[0].content.ljust(9999) }}{% endfor %}",
    ],
)
def test_a_template_that_would_fill_the_memory_is_ended(source: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequestError, match="chat template"):
        render(source)
    assert time.monotonic() - began < 3.5


def test_a_refusal_of_the_template_reaches_the_user_in_its_own_words() -> None:
    with pytest.raises(InvalidRequestError, match="roles must alternate"):
        render(MISTRAL, [*TALK[1:3], TALK[2]])
    with pytest.raises(InvalidRequestError, match="System role not supported"):
        render(GEMMA)


@pytest.mark.parametrize("source", ["{% for %}", "{{ x", "{% frobnicate %}", "{{ x|no_such_filter }}"])
def test_invalid_jinja_makes_the_template_unusable(source: str) -> None:
    with pytest.raises(ModelUnusableError, match="chat template is not valid"):
        ChatTemplate(source, {})


@pytest.mark.parametrize("source", ["{{ nothing.at.all }}", "{{ 1 / 0 }}", "{{ messages['x']['y'] }}"])
def test_a_template_that_breaks_is_a_clear_error(source: str) -> None:
    with pytest.raises(InvalidRequestError, match="chat template failed"):
        render(source)


def test_an_unknown_role_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError, match="unknown role 'wizard'") as caught:
        render(CHATML, (Message("wizard", "hi"),))
    assert "assistant" in caught.value.hint


def test_long_values_are_cut_in_errors() -> None:
    with pytest.raises(InvalidRequestError) as role:
        render(CHATML, (Message("x" * 200_000, "hi"),))
    with pytest.raises(InvalidRequestError) as option:
        ChatTemplate(CHATML, {}).render(TALK, options={"x" * 200_000 + "_token": 1})
    with pytest.raises(InvalidRequestError) as refusal:
        render("{{ raise_exception(messages[0].content) }}", (Message("user", "x" * 200_000),))
    assert all(len(str(caught.value)) < 1500 for caught in (role, option, refusal))


@pytest.mark.parametrize("documents", ["text", {"text": "x"}, ["text"], 5])
def test_documents_are_a_list_of_objects_as_in_transformers(documents: object) -> None:
    with pytest.raises(InvalidRequestError, match="'documents'"):
        ChatTemplate(CHATML, {}).render(TALK, options={"documents": documents})
    source = "{{ documents[0].text if documents }}"
    assert ChatTemplate(source, {}).render(TALK, options={"documents": [{"text": "a"}]}) == "a"
    assert ChatTemplate(source, {}).render(TALK, options={"documents": None}) == ""


def test_a_conversation_is_data_not_template() -> None:
    assert "{{ 7 * 7 }}" in render(CHATML, (Message("user", "{{ 7 * 7 }}"),))
