"""Chat templates. They come with a model file, so they are untrusted code and run in a sandbox.

Jinja's immutable sandbox keeps them away from Python, and operators that could fill the memory in one step are refused.
What gets past that, or loops, ends with the process it runs in (`template_process.py`). The environment offers what
templates on the hub rely on.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.filters import do_format
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...errors import InvalidRequestError, ModelUnusableError
from ...types import Message

MAX_OUTPUT = 16 * 1024 * 1024
_MAX_REPEAT = 100_000
_WIDE_FIELD = re.compile(
    r"\d{6}|:[^{}]*\{|%[^%a-zA-Z]*\*"
)  # a large width, or one that comes from an argument
_ROLES = ("system", "developer", "user", "assistant", "tool")
# What a template is given by the program; the last three are what other programs take beside template variables.
_RESERVED = frozenset(
    ("messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize")
)


class _RefusedError(Exception):
    """The template itself called `raise_exception`: the conversation does not suit the model."""


class _CodeGenerator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 (jinja's name for `~`)
        self.write("environment.join_texts((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "*", "**", "%"])
    code_generator_class = _CodeGenerator

    def join_texts(self, parts: Sequence[Any]) -> str:
        texts = [str(part) for part in parts]
        _check_size(sum(len(text) for text in texts))
        return "".join(texts)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 (as in jinja)
        if isinstance(getattr(__obj, "__self__", None), str):
            __obj = _bounded(__obj)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_widths(value.__self__)
        return wrapped

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if operator == "+" and isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
            _check_size(len(left) + len(right))
        if operator in "+*" and any(isinstance(x, int) and x.bit_length() > 1024 for x in (left, right)):
            raise SecurityError("this number is too large for a template")
        if operator == "**" and (not numbers or abs(left) > 1e6 or abs(right) > 64):
            raise SecurityError("this power is too large for a template")
        if operator == "*" and not numbers:
            raise SecurityError("a template may not repeat sequences")
        if operator == "%" and not numbers:
            raise SecurityError("a template may not format with %")
        return super().call_binop(context, operator, left, right)


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: Jinja text as found in the model.
        special_tokens: `bos_token`, `eos_token`, ... that the template may name.

    Attributes:
        knows_tools: whether the template looks at the tools it is given.

    Raises:
        ModelUnusableError: the template is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.filters["format"] = _format
        for name in ("center", "indent", "batch", "slice", "wordwrap"):
            environment.filters[name] = _bounded(environment.filters[name])
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        environment.globals.pop("lipsum", None)
        self._special_tokens = special_tokens
        self._globals = frozenset(environment.globals)
        try:
            self._template = environment.from_string(source)
            names = environment.parse(source).find_all(nodes.Name)
            self.knows_tools = any(name.name == "tools" for name in names)
        except (TemplateError, RecursionError) as error:
            raise ModelUnusableError(
                f"the model's chat template is not valid: {error}",
                hint="use plain prompts, or fix the template",
            ) from error

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[dict[str, Any]] = (),
        options: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt text for a conversation.

        Args:
            tools: functions the model may call, as OpenAI describes them.
            options: further variables for the template.

        Raises:
            InvalidRequestError: an option would replace what the program hands in, the template knows no tools, it
                refuses the conversation, breaks, or reaches for what it may not have.
        """
        for message in messages:
            if message.role not in _ROLES:
                raise InvalidRequestError(
                    f"unknown role '{message.role}'", hint=f"roles: {', '.join(_ROLES)}"
                )
        if tools and not self.knows_tools:
            raise InvalidRequestError(
                "this model's chat template knows no tools",
                hint="leave tools out, or use a model made for them",
            )
        variables = {
            **self._checked(options or {}),
            **self._special_tokens,
            "messages": [_turn(message) for message in messages],
            "add_generation_prompt": add_generation_prompt,
        }
        if tools:
            variables["tools"] = list(tools)
        try:
            parts, size = [], 0
            for part in self._template.generate(variables):
                parts.append(part)
                size += len(part)
                if size > MAX_OUTPUT:
                    raise SecurityError("its output has no end")
            return "".join(parts)
        except _RefusedError as error:
            raise InvalidRequestError(f"the model's chat template refuses this: {error}") from None
        except SecurityError as error:
            raise InvalidRequestError(
                f"the model's chat template did something unsafe: {error}",
                hint="do not trust this model file",
            ) from None
        except Exception as error:
            raise InvalidRequestError(
                f"the model's chat template failed: {type(error).__name__}: {error}",
                hint="use a plain prompt instead",
            ) from None

    def _checked(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in options:
            if name in _RESERVED or name in self._globals or name.endswith("_token"):
                raise InvalidRequestError(
                    f"the template option '{name}' would replace what the program itself hands to the template",
                    hint="options are for the template's own variables, such as enable_thinking",
                )
        return options


def _turn(message: Message) -> dict[str, Any]:
    """A message as templates expect it: what is not there has no key."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_calls:
        turn["tool_calls"] = list(message.tool_calls)
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _check_size(size: int) -> None:
    if size > MAX_OUTPUT:
        raise SecurityError("this text is too long for a template")


def _check_widths(pattern: str) -> None:
    if _WIDE_FIELD.search(pattern):
        raise SecurityError("this width is too large for a template")


def _format(pattern: str, *args: Any, **kwargs: Any) -> str:
    _check_widths(pattern)
    return do_format(pattern, *args, **kwargs)


def _raise_exception(message: str) -> NoReturn:
    raise _RefusedError(message)


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _bounded(function: Any) -> Any:
    """A filter whose numeric arguments (widths, counts) cannot ask for an enormous result."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, (int, float)) and abs(value) > _MAX_REPEAT:
                raise SecurityError("this width is too large for a template")
        return function(*args, **kwargs)

    return call
