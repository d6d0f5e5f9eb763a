"""Answers that must match a JSON schema, a regular expression, a grammar or a list of choices, with llguidance.

The constraint becomes a matcher over the model's own tokens. Before a token is chosen, all tokens that would break the
constraint are masked. Constraints are untrusted: their size is limited, each is first tried in a separate process
(`constraint_check.py`), and a matcher that exceeds its limits ends only its own request.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidRequestError, LqmfError, MissingDependencyError
from ...install import pip_line
from ...types import Constraint
from . import constraint_check

MAX_BYTES = 256 * 1024
MAX_CHOICES = 10_000
KINDS = ("json_object", "json_schema", "regex", "lark", "choice")
_CACHED = 32
_CHECK_WALL_S = 15.0
# Without an end, small models like to go on with white space for ever.
_JSON_SPACE = r"[ \n\r\t]{1,64}"
_REGEX_SYNTAX = re.compile(r"[\\.+*?()|\[\]{}^$#&~/-]")
# The forms of a call that are read out of an answer; see `openai_api/tool_calls.py`.
_WITH_CALLS = """start: answer | call | tagged{{1,{most}}}
answer: {answer}
call: {call}
tagged: "<tool_call>" GAP call GAP "</tool_call>" GAP
GAP: /[ \\n]{{0,4}}/
"""
_MOST_CALLS = 8


class Matcher:
    """How far one answer has matched its constraint. Used by one thread at a time."""

    def __init__(self, matcher: Any, n_vocab: int, mask_words: int) -> None:
        self._matcher = matcher
        self._n_vocab = n_vocab
        self._mask = np.zeros(mask_words, np.uint32)
        self.complete = False

    def mask_out(self, scores: NDArray[np.float32]) -> None:
        """Set the scores of all tokens that would break the constraint to -inf.

        Raises:
            InvalidRequestError: the constraint took more work than it may here.
        """
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        allowed = np.unpackbits(self._mask.view(np.uint8), bitorder="little", count=self._n_vocab)
        if self._matcher.is_error() or not allowed.any():
            raise _refusal("cannot be followed any further", self._matcher.get_error())
        scores[allowed == 0] = -np.inf

    def advance(self, token: int) -> None:
        """Take in the chosen token. Sets `complete` when nothing may follow.

        Raises:
            InvalidRequestError: the constraint took more work than it may here.
        """
        if not self._matcher.consume_token(token):
            raise _refusal("cannot be followed any further", self._matcher.get_error())
        self.complete = self._matcher.is_stopped()


class TokenBytes(Protocol):
    """What the compiler needs of a model's tokenizer: see `Tokenizer` in `engine.worker.runners.base`."""

    eos_ids: frozenset[int]

    def encode(self, text: str, *, parse_special: bool) -> list[int]: ...

    def token_bytes(self, token: int) -> bytes: ...


class ConstraintCompiler:
    """Makes matchers for one model's tokens. Safe to use from several threads."""

    def __init__(self, tokenizer: TokenBytes, n_vocab: int) -> None:
        self._tokenizer = tokenizer
        self._n_vocab = n_vocab
        self._vocabulary: Any = None
        self._compiled: OrderedDict[Constraint, Any] = OrderedDict()
        self._lock = threading.Lock()

    def cached(self, constraint: Constraint) -> Matcher | None:
        """A fresh matcher at once, if this constraint was compiled before."""
        with self._lock:
            matcher = self._compiled.get(constraint)
            if matcher is None:
                return None
            self._compiled.move_to_end(constraint)
            return self._fresh(matcher)

    def compile(self, constraint: Constraint) -> Matcher:
        """A fresh matcher; takes from a tenth of a second to some seconds.

        Raises:
            InvalidRequestError: the constraint is malformed, too large, too complex, or nothing matches it.
            MissingDependencyError: llguidance is not installed.
        """
        grammar = grammar_of(constraint)
        _try_out(grammar)
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = _vocabulary(self._tokenizer, self._n_vocab)
        from llguidance import LLMatcher

        matcher = LLMatcher(self._vocabulary, grammar, log_level=0, limits=constraint_check.parser_limits())
        # The first mask builds most of what the later ones need, and tells whether anything matches at all.
        mask = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        if matcher.is_error():
            raise _refusal("is not valid", matcher.get_error())
        if set(np.flatnonzero(np.unpackbits(mask, bitorder="little"))) <= set(self._vocabulary.eos_tokens):
            raise _refusal("matches nothing but the empty text", "")
        with self._lock:
            self._compiled[constraint] = matcher
            while len(self._compiled) > _CACHED:
                self._compiled.popitem(last=False)
            return self._fresh(matcher)

    def _fresh(self, compiled: Any) -> Matcher:
        return Matcher(compiled.deep_copy(), self._n_vocab, -(-self._vocabulary.vocab_size // 32))


def grammar_of(constraint: Constraint) -> str:
    """A constraint in llguidance's own form.

    Raises:
        InvalidRequestError: it is of an unknown kind, too large or malformed.
        MissingDependencyError: llguidance is not installed.
    """
    try:
        from llguidance import LLMatcher
    except ImportError:
        raise MissingDependencyError(
            "constrained answers need the package llguidance", hint=pip_line("llguidance==1.9.1")
        ) from None
    kind, value = constraint.kind, constraint.value
    if kind not in KINDS:
        raise InvalidRequestError(f"unknown kind of constraint '{kind}'", hint=f"kinds: {', '.join(KINDS)}")
    size = len(value.encode("utf-8", errors="replace"))
    if size > MAX_BYTES:
        raise InvalidRequestError(
            f"the constraint has {size:,} bytes, at most {MAX_BYTES:,} are allowed", hint="make it smaller"
        )
    if constraint.calls:
        call = {"anyOf": [_call_schema(constraint.calls, name) for name in ("arguments", "parameters")]}
        return LLMatcher.grammar_from_lark(
            _WITH_CALLS.format(most=_MOST_CALLS, answer=_rule(kind, value), call=_json_rule(call))
        )
    match kind:
        case "lark":
            return LLMatcher.grammar_from_lark(value)
        case "regex":
            return LLMatcher.grammar_from_lark(f"start: {_rule(kind, value)}")
        case "choice":
            return LLMatcher.grammar_from_regex(_choice_regex(value))
    try:
        return LLMatcher.grammar_from_json_schema(
            _schema(kind, value), overrides={"whitespace_pattern": _JSON_SPACE}
        )
    except (ValueError, RecursionError) as error:
        raise _no_schema(error) from None


def _rule(kind: str, value: str) -> str:
    """A constraint as the right side of a rule in Lark's syntax."""
    from llguidance import regex_to_lark

    match kind:
        case "regex":  # \d is 0 to 9 as in JSON Schema, not every script's digits
            return f"/{regex_to_lark(value, 'd')}/"
        case "choice":
            return f"/{regex_to_lark(_choice_regex(value))}/"
        case "lark":
            raise InvalidRequestError("calls of tools cannot be added to a grammar")
    return _json_rule(_schema(kind, value))


def _json_rule(schema: dict[str, Any]) -> str:
    given = schema.get("x-guidance")
    guidance = {**(given if isinstance(given, dict) else {}), "whitespace_pattern": _JSON_SPACE}
    try:
        return f"%json {json.dumps(schema | {'x-guidance': guidance})}"
    except RecursionError as error:
        raise _no_schema(error) from None


def _schema(kind: str, value: str) -> dict[str, Any]:
    try:
        schema = {"type": "object"} if kind == "json_object" else json.loads(value)
        if schema is True:
            schema = {}
        if not isinstance(schema, dict):
            raise ValueError("it is not an object")
    except (ValueError, RecursionError) as error:
        raise _no_schema(error) from None
    return schema


def _no_schema(error: Exception) -> LqmfError:
    return _refusal("is not a JSON schema", str(error))


def _call_schema(names: Sequence[str], arguments: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"enum": list(names)}, arguments: {"type": "object"}},
        "required": ["name", arguments],
        "additionalProperties": False,
    }


def _choice_regex(value: str) -> str:
    return "|".join(_escape(choice) for choice in _choices(value))


def _choices(value: str) -> list[str]:
    try:
        choices = msgspec.json.decode(value, type=list[str])
    except msgspec.MsgspecError as error:
        raise _refusal("is not a JSON list of strings", str(error)) from None
    if not choices or "" in choices:
        raise InvalidRequestError("the choices must be one or more texts that are not empty")
    if len(choices) > MAX_CHOICES:
        raise InvalidRequestError(f"{len(choices):,} choices are too many", hint=f"at most {MAX_CHOICES:,}")
    return choices


def _escape(text: str) -> str:
    return _REGEX_SYNTAX.sub(r"\\\g<0>", text)


def _try_out(grammar: str) -> None:
    """Compile it elsewhere, within hard limits of time, memory and stack."""
    try:
        process = subprocess.run(
            [sys.executable, "-P", str(Path(constraint_check.__file__))],
            input=grammar.encode(errors="replace"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_CHECK_WALL_S,
            check=False,
        )
        problem = json.loads(process.stdout) if process.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        process = None
    if process is None or process.returncode != 0:
        raise InvalidRequestError(
            f"the constraint is too complex: it takes over {constraint_check.CPU_S} s of work, or is nested too deep",
            hint="use fewer alternatives, smaller repetition bounds and less nesting",
        )
    if problem is not None:
        raise _refusal("is not valid", problem)


def _refusal(what: str, why: str) -> LqmfError:
    """The error for a constraint, with the line of what llguidance says that has the reason."""
    first, *rest = why.strip().split("\n")
    reason = next((line for line in rest if line.startswith("error:")), "") if first.endswith(":") else ""
    reason = f"{first} {reason.removeprefix('error:')}".strip()[:300]
    if reason.startswith("NoExtension"):
        what, reason = "matches nothing but the empty text", ""
    return InvalidRequestError(f"the constraint {what}" + (f": {reason}" if reason else ""))


def _vocabulary(tokenizer: TokenBytes, n_vocab: int) -> Any:
    """The model's tokens as llguidance wants them. Special ones have no bytes, so that no constraint lets them in."""
    from llguidance import LLTokenizer

    tokens = [tokenizer.token_bytes(token) for token in range(n_vocab)]
    eos = sorted(token for token in tokenizer.eos_ids if token < n_vocab)
    if not eos:  # llguidance needs one: one that can never be chosen
        eos, tokens = [n_vocab], [*tokens, b""]
    words: Any = _Words(tokenizer, tokens, eos[0])
    words.vocabulary = LLTokenizer(words, eos_token=eos)
    return words.vocabulary


class _Words:
    """A tokenizer in the shape that `LLTokenizer` takes; it is called for text that the constraint forces."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    special_token_ids: tuple[int, ...] = ()

    def __init__(self, tokenizer: TokenBytes, tokens: list[bytes], eos: int) -> None:
        self.tokens = tokens
        self.eos_token_id = eos
        self.vocabulary: Any = None
        self._tokenizer = tokenizer

    def __call__(self, text: str | bytes) -> list[int]:
        plain = text if isinstance(text, str) else text.decode(errors="replace")
        ids = self._tokenizer.encode(plain, parse_special=False)
        # Some tokenizers begin every text with a space that is not there.
        if b"".join(self.tokens[token] for token in ids) == plain.encode(errors="replace"):
            return ids
        return [] if self.vocabulary is None else self.vocabulary.greedy_tokenize(plain)
