"""Constrained answers over a vocabulary of bytes: they always match, and no constraint is too hostile to refuse."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from lqmf_runner.engine.sandbox.constraints import MAX_BYTES, ConstraintCompiler, Matcher
from lqmf_runner.engine.worker.runners.base import Tokenizer
from lqmf_runner.engine.worker.sampling import Sampler, check_sampling
from lqmf_runner.engine.worker.text import BytesDetokenizer
from lqmf_runner.errors import InvalidRequestError
from lqmf_runner.types import Constraint, SamplingParams

EOS, OTHER_EOS, SPECIAL = 2, 0, 1
WORDS = [b'{"', b'":', b"name", b"yes", b" yes", b"no", b"  ", "é".encode(), b"12"]
TOKENS = [b""] * 3 + [bytes([i]) for i in range(256)] + WORDS
N_VOCAB = len(TOKENS) + 5  # logits are often wider than the vocabulary


class ByteTokenizer(Tokenizer):
    """Three special tokens, all bytes, some words. Like SentencePiece it begins every text with a space, if asked."""

    add_bos, bos_id, chat_template, special_tokens = False, None, None, {}

    def __init__(self, *, space: bool = False, eos: tuple[int, ...] = (EOS, OTHER_EOS)) -> None:
        self.eos_ids = frozenset(eos)
        self._space = space

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        return [byte + 3 for byte in (" " * self._space + text).encode()]

    def detokenizer(self) -> BytesDetokenizer:
        return BytesDetokenizer(self.token_bytes)

    def token_text(self, token: int) -> str:
        return self.token_bytes(token).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        return TOKENS[token] if token < len(TOKENS) else b""


@pytest.fixture(scope="module")
def compiler() -> ConstraintCompiler:
    return ConstraintCompiler(ByteTokenizer(), N_VOCAB)


def answer(matcher: Matcher, params: SamplingParams, seed: int, n: int = 400) -> tuple[str, bool]:
    """Text sampled from random logits, and whether it ended by itself."""
    sampler = Sampler(params, [], N_VOCAB)
    sampler.constrain(matcher)
    rng = np.random.default_rng(seed)
    text = b""
    for _ in range(n):
        token = sampler.sample(rng.normal(0, 3, N_VOCAB).astype(np.float32))
        if token in (EOS, OTHER_EOS):
            return text.decode(), True
        assert TOKENS[token], "a special token was chosen"
        text += TOKENS[token]
        if matcher.complete:
            return text.decode(), True
    return text.decode(errors="replace"), False


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["x", "y", None]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
CASES = {
    "json_schema": (json.dumps(SCHEMA), lambda text: set(json.loads(text)) >= {"name", "age"}),
    "json_object": ("", lambda text: isinstance(json.loads(text), dict)),
    "regex": (r"^[A-F]{2,4}-\d+$", lambda text: re.fullmatch(r"[A-F]{2,4}-[0-9]+", text)),
    "lark": (
        'start: sum\nsum: NUMBER ("+" NUMBER)~1..3\nNUMBER: /[1-9][0-9]?/',
        lambda text: re.fullmatch(r"[1-9][0-9]?(\+[1-9][0-9]?){1,3}", text),
    ),
    "choice": (
        json.dumps(["yes", " yes", "no", 'a "b" [c]+|(d)\n\\.', "né 🐝"]),
        lambda text: text in ["yes", " yes", "no", 'a "b" [c]+|(d)\n\\.', "né 🐝"],
    ),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0),
        SamplingParams(seed=1, temperature=2.0),
        SamplingParams(seed=2, top_k=1),
        SamplingParams(seed=3, top_p=0.1, min_p=0.5, repetition_penalty=2.0, presence_penalty=5.0),
        SamplingParams(seed=4, logit_bias={ord("F") + 3: -100.0, 100: 100.0, SPECIAL: 100.0, N_VOCAB - 1: 100.0}),
    ],
    ids=["greedy", "hot", "top_k", "penalties", "bias"],
)  # fmt: skip
def test_an_answer_that_ends_matches(compiler: ConstraintCompiler, kind: str, params: SamplingParams) -> None:
    value, matches = CASES[kind]
    constraint = Constraint(kind, value)
    ended = 0
    for seed in range(6):
        matcher = compiler.cached(constraint) or compiler.compile(constraint)
        text, whole = answer(matcher, params, seed)
        if whole:
            assert matches(text), text
            ended += 1
    assert ended == 6 or (kind == "json_object" and (ended or params.logit_bias)), (
        "only a free object may go on"
    )


@pytest.mark.parametrize("text", ["a/b", "a\nb", "/", "a/ | /b", "a/i"])
def test_a_slash_does_not_end_a_regex(compiler: ConstraintCompiler, text: str) -> None:
    matcher = compiler.compile(Constraint("regex", text.replace("|", r"\|")))
    assert answer(matcher, SamplingParams(temperature=0), 0) == (text, True)


def test_choices_all_come_up(compiler: ConstraintCompiler) -> None:
    constraint = Constraint("choice", json.dumps(["yes", "no", "maybe"]))
    compiler.compile(constraint)
    texts = set()
    for seed in range(30):
        matcher = compiler.cached(constraint)
        assert matcher is not None
        texts.add(answer(matcher, SamplingParams(seed=seed), seed)[0])
    assert texts == {"yes", "no", "maybe"}


def test_the_end_is_allowed_only_where_the_answer_is_complete(compiler: ConstraintCompiler) -> None:
    matcher = compiler.compile(Constraint("regex", "[0-9]+"))
    scores = np.zeros(N_VOCAB, np.float32)
    matcher.mask_out(scores)
    assert {TOKENS[i] for i in np.flatnonzero(scores == 0)} == {b"%d" % i for i in range(10)} | {b"12"}
    matcher.advance(ord("7") + 3)
    scores = np.zeros(N_VOCAB, np.float32)
    matcher.mask_out(scores)
    allowed = set(np.flatnonzero(scores == 0).tolist())
    assert {EOS, OTHER_EOS} < allowed
    assert SPECIAL not in allowed
    assert not matcher.complete
    with pytest.raises(InvalidRequestError, match="cannot be followed"):
        matcher.advance(ord("x") + 3)


def test_an_answer_is_complete_when_nothing_may_follow(compiler: ConstraintCompiler) -> None:
    matcher = compiler.compile(Constraint("choice", '["no"]'))
    matcher.advance(ord("n") + 3)
    assert not matcher.complete
    matcher.advance(ord("o") + 3)
    assert matcher.complete


def test_matchers_of_one_constraint_go_their_own_ways(compiler: ConstraintCompiler) -> None:
    constraint = Constraint("regex", "ab|cd")
    first = compiler.compile(constraint)
    first.advance(ord("a") + 3)
    second = compiler.cached(constraint)
    assert second is not None
    second.advance(ord("c") + 3)
    first.advance(ord("b") + 3)
    assert first.complete
    assert not second.complete
    assert compiler.cached(Constraint("regex", "never seen")) is None


def test_forced_text_survives_a_tokenizer_that_adds_a_space() -> None:
    spaced = ConstraintCompiler(ByteTokenizer(space=True), N_VOCAB)
    matcher = spaced.compile(Constraint("choice", '["name: none"]'))
    assert answer(matcher, SamplingParams(temperature=0), 0) == ("name: none", True)


def test_a_model_without_an_end_of_sequence_ends_where_nothing_may_follow() -> None:
    endless = ConstraintCompiler(ByteTokenizer(eos=()), N_VOCAB)
    matcher = endless.compile(Constraint("regex", "a{3}"))
    assert answer(matcher, SamplingParams(temperature=0), 0) == ("aaa", True)


def test_the_row_of_logits_is_left_as_it_is(compiler: ConstraintCompiler) -> None:
    sampler = Sampler(SamplingParams(temperature=0), [], N_VOCAB)
    sampler.constrain(compiler.compile(Constraint("regex", "[ab]+")))
    logits = np.arange(N_VOCAB, dtype=np.float32)
    assert TOKENS[sampler.sample(logits)] == b"b"
    assert np.array_equal(logits, np.arange(N_VOCAB, dtype=np.float32))


def chain(n: int) -> str:
    return "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(n)) + f'r{n}: "a"\n'


def schema(**fields: object) -> str:
    return json.dumps(fields)


BOMBS = {
    "repetition of repetitions": ("regex", "((a?){1000}){1000}a{1000}"),
    "nested quantifiers": ("regex", "(.*(a+)+(b*)*){1,40}" * 40 + "~"),
    "open brackets": ("regex", "(" * 100_000 + "a" + ")" * 100_000),
    "a chain of rules": ("lark", chain(10_000)),
    "a chain of terminals": ("lark", chain(10_000).replace("r", "R").replace("staRt", "start")),
    "doubling terminals": (
        "lark",
        "start: T0\n" + "".join(f"T{i}: T{i + 1} T{i + 1}\n" for i in range(60)) + 'T60: "a"\n',
    ),
    "nested groups": ("lark", "start: " + "(" * 50_000 + '"a"' + ")" * 50_000),
    "a rule that is itself": ("lark", "start: start"),
    "a schema that is itself": ("json_schema", '{"$ref": "#"}'),
    "two schemas that are each other": (
        "json_schema",
        schema(**{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    ),
    "a chain of schemas": (
        "json_schema",
        schema(**{
            "$ref": "#/$defs/a0",
            "$defs": {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}, {}]} for i in range(4000)}
            | {"a4000": {}},
        }),
    ),
    "a deep schema": ("json_schema", '{"items":' * 5000 + "{}" + "}" * 5000),
    "a huge divisor": ("json_schema", '{"type": "integer", "multipleOf": 1000003}'),
    "alternatives of alternatives": (
        "json_schema",
        schema(allOf=[{"oneOf": [{"minLength": 7 * i + j} for j in range(8)]} for i in range(12)]),
    ),
    "a megabyte of choices": ("json_schema", schema(enum=[f"value {i}" * 5 for i in range(20_000)])),
    "too many choices": ("choice", json.dumps([str(i) for i in range(10_001)])),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_constraint_built_to_explode_is_refused(compiler: ConstraintCompiler, name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        answer(compiler.compile(Constraint(*BOMBS[name])), SamplingParams(seed=0), 0, 4000)
    assert len(caught.value.message) < 500


def test_a_constraint_that_is_too_large_is_refused_with_both_numbers(compiler: ConstraintCompiler) -> None:
    with pytest.raises(InvalidRequestError, match=rf"{MAX_BYTES + 1:,} bytes.*{MAX_BYTES:,}"):
        compiler.compile(Constraint("regex", "a" * (MAX_BYTES + 1)))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("telepathy", ""),
        ("regex", "(unclosed"),
        ("regex", ""),
        ("regex", "(?=ahead)a"),
        ("lark", "start: nowhere"),
        ("lark", "no rules at all ("),
        ("json_schema", "{broken"),
        ("json_schema", "[]"),
        ("json_schema", "false"),
        ("json_schema", '{"type": "integer", "minimum": 5, "maximum": 4}'),
        ("json_schema", '{"type": "nothing there is"}'),
        ("json_schema", '{"if": {}, "then": {"required": ["b"]}}'),
        ("json_schema", '{"$ref": "file:///etc/passwd"}'),
        ("json_schema", '{"$ref": "http://127.0.0.1:1/schema.json"}'),
        ("choice", "[]"),
        ("choice", '["a", 1]'),
        ("choice", '["a", ""]'),
        ("choice", '{"a": 1}'),
    ],
)
def test_a_malformed_constraint_is_refused(compiler: ConstraintCompiler, kind: str, value: str) -> None:
    with pytest.raises(InvalidRequestError):
        compiler.compile(Constraint(kind, value))


def test_a_constraint_and_ignore_eos_do_not_go_together() -> None:
    with pytest.raises(InvalidRequestError, match="ignore_eos"):
        check_sampling(SamplingParams(constraint=Constraint("json_object"), ignore_eos=True))


@pytest.mark.parametrize(
    ("decoder", "pieces"),
    [
        (
            [{"type": "ByteLevel", "add_prefix_space": True}],
            {"Ġthe": b" the", "Ċ": b"\n", "Ã©": "é".encode(), "ð": b"\xf0", "a": b"a", "Ń": b"\xad"},
        ),
        (
            [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
            {"▁the": b" the", "<0x0A>": b"\n", "<0xF0>": b"\xf0", "é": "é".encode(), "<0x": b"<0x"},
        ),
        ([{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}], {"▁▁a": b"  a"}),
    ],
    ids=["byte-level BPE", "SentencePiece", "Metaspace"],
)
def test_vocabulary_entries_become_the_bytes_they_stand_for(decoder: list, pieces: dict[str, bytes]) -> None:
    from lqmf_runner.engine.worker.runners.transformers_tokenizer import piece_bytes

    assert {piece: piece_bytes(piece, decoder) for piece in pieces} == pieces
