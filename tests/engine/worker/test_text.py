"""Text that may be shown: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import random

import pytest

from lqmf_runner.engine.worker.text import AnswerText, BytesDetokenizer


def answer(pieces: list[bytes], *stop: str) -> tuple[list[str], AnswerText]:
    """What an answer shows token by token; it ends at a stop string."""
    text = AnswerText(BytesDetokenizer(pieces.__getitem__), stop)
    shown = []
    for token in range(len(pieces)):
        shown.append(text.add(token))
        if text.stopped:
            break
    shown.append(text.finish())
    return shown, text


def test_a_character_in_several_tokens_comes_out_whole() -> None:
    shown, _ = answer([bytes([b]) for b in "é🎉".encode()])
    assert shown == ["", "é", "", "", "", "🎉", ""]


def test_an_incomplete_character_at_the_end_is_replaced() -> None:
    shown, _ = answer([b"a", "🎉".encode()[:3]])
    assert "".join(shown) == "a\ufffd"


def test_an_invalid_byte_is_replaced_and_what_follows_is_kept() -> None:
    shown, _ = answer([b"\xff", b"ok"])
    assert "".join(shown) == "\ufffdok"


def test_text_that_may_begin_a_stop_string_is_held_back_until_it_is_clear() -> None:
    shown, text = answer([b"a#", b"#", b"b"], "###")
    assert shown == ["a", "", "##b", ""]
    assert not text.stopped


def test_what_was_held_back_comes_out_at_the_end() -> None:
    shown, text = answer([b"a##"], "###")
    assert shown == ["a", "##"]
    assert not text.stopped


def test_a_stop_string_over_several_tokens_is_cut_with_all_that_follows() -> None:
    shown, text = answer([b"one#", b"#", b"#two", b"never"], "###")
    assert "".join(shown) == "one"
    assert text.stopped


def test_the_stop_string_that_begins_first_wins() -> None:
    shown, _ = answer([b"a bc d"], "d", "bc")
    assert "".join(shown) == "a "


def test_a_stop_string_may_be_complete_only_with_the_last_incomplete_character() -> None:
    shown, text = answer([b"a", b"\xf0"], "\ufffd")
    assert "".join(shown) == "a"
    assert text.stopped


def test_a_stop_string_of_several_bytes_is_found() -> None:
    shown, _ = answer([bytes([b]) for b in "naïve ☕ end".encode()], "☕")
    assert "".join(shown) == "naïve "


def test_empty_stop_strings_stop_nothing() -> None:
    shown, text = answer([b"abc"], "")
    assert "".join(shown) == "abc"
    assert not text.stopped


@pytest.mark.parametrize("seed", range(5))
def test_any_cut_of_a_text_into_tokens_shows_what_cutting_the_whole_text_shows(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        whole = "".join(rng.choice("ab#é🎉") for _ in range(rng.randrange(20)))
        stops = tuple("".join(rng.choice("ab#é") for _ in range(rng.randrange(1, 4))) for _ in range(2))
        data, pieces = whole.encode(), []
        while data:
            n = rng.randrange(1, 4)
            pieces.append(data[:n])
            data = data[n:]
        shown, text = answer(pieces, *stops)
        # With several stops, the one that is complete first ends the answer.
        ends = [(whole.find(s) + len(s), whole.find(s)) for s in stops if s in whole]
        assert text.stopped == bool(ends)
        if not ends:
            assert "".join(shown) == whole
        else:
            assert "".join(shown) in {whole[:at] for _, at in ends}
            assert not any(s in "".join(shown) for s in stops)
