"""The Jinja environment of chat templates: what transformers offers them, without what would fill the memory.

Names, filters and tags are those of `transformers.utils.chat_template_utils`, so that a template renders the same text
here and there. Operators and methods that could make an enormous text in one step check its size first.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import string
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes, pass_eval_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_format
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_OUTPUT = 16 * 1024 * 1024  # characters
_MAX_REPEAT = 100_000  # a width, and elements of a repeated list
_MAX_BITS = 1024  # of a number
_PADDING = ("ljust", "rjust", "center", "zfill", "expandtabs")
_BOUNDED_FILTERS = ("center", "indent", "batch", "slice", "wordwrap")
_PERCENT = re.compile(r"%%|%(?:\([^)]*\))?[#0\- +]*(\*|\d*)(?:\.(\*|\d*))?")
_DIGITS = re.compile(r"\d+")


class RefusedError(Exception):
    """The template itself called `raise_exception`: the conversation does not suit the model."""


def create_environment() -> ImmutableSandboxedEnvironment:
    """A fresh environment, as transformers makes one for each chat template."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.filters["format"] = _format
    for name in _BOUNDED_FILTERS:
        environment.filters[name] = _bounded(environment.filters[name])
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    environment.globals.pop("lipsum", None)
    return environment


class _Generation(Extension):
    """`{% generation %}` marks what the model is trained on; the tags themselves print nothing.

    Its body is a call block, as in transformers: what it sets is not seen after it.
    """

    tags = {"generation"}  # noqa: RUF012 (as jinja declares it)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_print"), [], [], body).set_lineno(line)

    @pass_eval_context
    def _print(self, context: nodes.EvalContext, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict` of templates, without the attributes of the type itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """`namespace` of templates; attributes that begin with an underscore are refused, as in transformers."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _check_attribute(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_attribute(name)
        super().__setitem__(name, value)


def _check_attribute(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no attribute named {name[:40]!r}")


class _CodeGenerator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 (jinja's name for `~`)
        joiner = "markup_join" if frame.eval_ctx.autoescape else "str_join"
        if frame.eval_ctx.volatile:
            joiner = "(markup_join if context.eval_ctx.volatile else str_join)"
        self.write(f"environment.join_texts({joiner}, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "*", "**", "%"])
    code_generator_class = _CodeGenerator

    def join_texts(self, join: Callable[[Iterable[Any]], str], parts: Sequence[Any]) -> str:
        check_size(sum(len(part) for part in parts if isinstance(part, str)))
        return join(parts)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 (as in jinja)
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, (str, bytes)) and getattr(__obj, "__name__", "") in _PADDING:
            _check_numbers((*args, *kwargs.values()))
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        pattern = value.__self__

        def call(*args: Any, **kwargs: Any) -> str:
            _check_fields(pattern, (*args, *kwargs.values()))
            text: str = wrapped(*args, **kwargs)
            return text

        return functools.update_wrapper(call, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            _check_sum(left, right)
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**":
            _check_power(left, right)
        elif isinstance(left, str):
            _check_percent(left, right if isinstance(right, tuple) else (right,))
        elif isinstance(left, bytes):
            raise SecurityError("a template may not format bytes")
        return super().call_binop(context, operator, left, right)


def check_size(size: int) -> None:
    """Refuse a text of so many characters if no prompt could need it.

    Raises:
        SecurityError: it is too long.
    """
    if size > MAX_OUTPUT:
        raise SecurityError("this text is too long for a template")


def _check_sum(left: Any, right: Any) -> None:
    if isinstance(left, (str, bytes, list, tuple)) and isinstance(right, (str, bytes, list, tuple)):
        check_size(len(left) + len(right))
    _check_bits(left, right)


def _check_product(left: Any, right: Any) -> None:
    _check_bits(left, right)
    for sequence, count in ((left, right), (right, left)):
        if not isinstance(count, int):
            continue
        if isinstance(sequence, (str, bytes)):
            check_size(len(sequence) * count)
        elif isinstance(sequence, (list, tuple)) and len(sequence) * count > _MAX_REPEAT:
            raise SecurityError("this list is too long for a template")


def _check_power(base: Any, exponent: Any) -> None:
    numbers = isinstance(base, (int, float)) and isinstance(exponent, (int, float))
    if not numbers or abs(base) > 1e6 or abs(exponent) > 64:
        raise SecurityError("this power is too large for a template")


def _check_bits(*values: Any) -> None:
    if any(isinstance(value, int) and value.bit_length() > _MAX_BITS for value in values):
        raise SecurityError("this number is too large for a template")


def _check_numbers(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, (int, float)) and abs(value) > _MAX_REPEAT:
            raise SecurityError("this width is too large for a template")


def _check_width(digits: str) -> None:
    if len(digits) > 6 or int(digits or "0") > _MAX_REPEAT:
        raise SecurityError("this width is too large for a template")


def _check_percent(pattern: str, values: Iterable[Any]) -> None:
    for conversion in _PERCENT.finditer(pattern):
        for width in conversion.groups(default=""):
            if width == "*":
                _check_numbers(values)
            else:
                _check_width(width)


def _check_fields(pattern: str, values: Sequence[Any]) -> None:
    """The same for `str.format`, whose widths may themselves be fields."""
    specs: list[str] = []
    with contextlib.suppress(ValueError):  # the call itself says what is wrong with the pattern
        specs = [spec or "" for _, _, spec, _ in string.Formatter().parse(pattern)]
    for spec in specs:
        for digits in _DIGITS.findall(spec):
            _check_width(digits)
        if "{" in spec:
            _check_numbers(values)
            if not all(isinstance(value, (str, int, float)) for value in values):
                raise SecurityError("a template may not take a width out of a list or an object")


def _tojson(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter of transformers: jinja's own one escapes HTML."""
    _check_numbers((indent,))
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _format(pattern: str, *args: Any, **kwargs: Any) -> str:
    _check_percent(str(pattern), (*args, *kwargs.values()))
    return do_format(pattern, *args, **kwargs)


def _raise_exception(message: str) -> NoReturn:
    raise RefusedError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _bounded(function: Any) -> Any:
    """A filter whose numeric arguments (widths, counts) cannot ask for an enormous result."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        _check_numbers((*args, *kwargs.values()))
        return function(*args, **kwargs)

    return call
