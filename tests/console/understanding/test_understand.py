"""How much of plain English the first two layers understand, and that they never act on what is out of scope."""

from __future__ import annotations

from unittest import mock

import pytest

from lqmf_runner.console.understanding.arguments import readings
from lqmf_runner.console.understanding.steps import FUZZY, SURE, UNKNOWN
from lqmf_runner.console.understanding.understand import Understanding
from tests.support.utterances import NAMES, utterances


@pytest.fixture(scope="module")
def console() -> Understanding:
    return Understanding(NAMES)


@pytest.mark.parametrize(("name", "least"), [("seen", 0.97), ("unseen", 0.92)])
def test_most_sentences_are_understood_with_all_arguments(
    name: str, least: float, console: Understanding
) -> None:
    sentences = list(utterances(name))
    missed = [sentence.text for sentence in sentences if not sentence.matches(console.steps(sentence.text))]
    assert len(sentences) >= 125
    assert 1 - len(missed) / len(sentences) >= least, f"{len(missed)} are missed"


def test_nothing_is_done_for_sentences_out_of_scope(console: Understanding) -> None:
    sentences = list(utterances("out_of_scope"))
    acted = {s.text: steps for s in sentences if (steps := console.steps(s.text))[0].intent != UNKNOWN}
    assert len(sentences) >= 60
    assert not acted


def test_no_sentence_is_in_two_sets() -> None:
    texts = [s.text.lower() for name in ("seen", "unseen", "out_of_scope") for s in utterances(name)]
    assert len(texts) == len(set(texts))


def test_it_stands_for_the_models_of_the_step_before(console: Understanding) -> None:
    _, second = console.steps("load qwen bnb4 and benchmark it")
    assert second.arguments == {"kind": "benchmark", "models": ["qwen_bnb4"]}
    (only,) = console.steps("chat with it", ["mistral_gptq4"])
    assert only.arguments == {"model": "mistral_gptq4"}
    assert only.confidence == 1


def test_it_is_the_model_that_was_made(console: Understanding) -> None:
    _, after = console.steps("quantize smollm2 bf16 to 4 bit with gptq and benchmark it")
    assert after.models == ["smollm2_gptq_4bit"]
    made, after = console.steps("quantize qwen bnb4 to 5 bit and chat with it", ["mistral_gptq4"])
    assert (made.models, after.models) == (
        ["qwen_bnb4"],
        [],
    )  # bnb has no 5 bits: nothing is made, and it is asked
    assert after.choices


def test_it_stands_for_a_report_that_was_shown_if_that_can_be_meant(console: Understanding) -> None:
    for sentence in ("open it", "show it"):
        assert [s.intent for s in console.steps(sentence, ["mistral_gptq4"], report=True)] == ["SHOW_REPORT"]
    (only,) = console.steps("unload it", ["mistral_gptq4"], report=True)
    assert (only.intent, only.arguments) == ("UNLOAD_MODEL_API", {"model": "mistral_gptq4"})


@pytest.mark.parametrize(
    "sentence",
    [
        "recommend a model with at least 2 GB",
        "recommend a model under 20 tok/s",
        "compare llama and mistral over 2 GB",
    ],
)
def test_a_limit_that_is_said_the_wrong_way_round_is_not_turned_round(
    sentence: str, console: Understanding
) -> None:
    assert [step.intent for step in console.steps(sentence)] == [UNKNOWN]


def test_a_name_that_may_mean_several_is_a_question(console: Understanding) -> None:
    (step,) = console.steps("load qwen")
    assert step.arguments == {}
    assert step.choices == {"model": ["qwen_bnb4", "qwen_bnb8", "qwen_gguf", "qwen_gptq4"]}
    assert step.confidence < SURE


@pytest.mark.parametrize(
    ("sentence", "word"),
    [
        ("load smollm3 gguf", "smollm3"),
        ("load qwen_bnb6", "qwen_bnb6"),
        ("chat with llama33", "llama33"),
        ("load smollm2 gptq8", "gptq8"),
        ("load smollm2_q5_k_m", "smollm2_q5_k_m"),
        ("load smollm2_q4_k_s", "smollm2_q4_k_s"),
    ],
)
def test_another_number_in_a_name_is_no_typing_error(
    sentence: str, word: str, console: Understanding
) -> None:
    (step,) = console.steps(sentence)
    assert (step.intent, step.unclear) == (UNKNOWN, (word,))


def test_the_type_that_is_said_is_made(console: Understanding) -> None:
    (step,) = console.steps("make a q5_k_m gguf out of smollm2_bf16")
    assert step.arguments == {"model": "smollm2_bf16", "method": "gguf", "type": "Q5_K_M"}


@pytest.mark.parametrize(
    ("sentence", "arguments"),
    [
        ("benchmark smollm2_bnb4 vs smollm2_gguf", {"models": ["smollm2_bnb4", "smollm2_gguf"]}),
        ("compare bnb4 and bnb8 of qwen", {"models": ["qwen_bnb4", "qwen_bnb8"]}),
        ("compare llama and mistral for 1, 4 and 8 users under 2 GB",
         {"models": ["llama32_bnb4", "mistral_gptq4"], "users": [1, 4, 8], "max_memory_mb": 2048}),
    ],
)  # fmt: skip
def test_a_comparison_is_understood_with_what_limits_it(
    sentence: str, arguments: dict[str, object], console: Understanding
) -> None:
    (step,) = console.steps(sentence)
    assert step.arguments == {"kind": "compare"} | arguments


def test_the_machine_is_part_of_a_recommendation_only(console: Understanding) -> None:
    assert [s.intent for s in console.steps("which model should I run on this laptop")] == ["RECOMMEND_MODEL"]
    assert [s.intent for s in console.steps("shut down the laptop")] == [UNKNOWN]


def test_two_readings_that_are_as_good_are_a_question(console: Understanding) -> None:
    (step,) = console.steps("run mistral")
    assert step.others
    assert step.confidence < SURE


def test_each_of_several_models_is_asked_the_whole_question(console: Understanding) -> None:
    asked = console.steps('ask qwen_gguf, mistral and llama "why is the sky blue?"')
    assert [step.models for step in asked] == [["qwen_gguf"], ["mistral_gptq4"], ["llama32_bnb4"]]
    assert {step.arguments["message"] for step in asked} == {"why is the sky blue?"}
    assert [step.intent for step in console.steps("ask qwen and mistral why")] == [UNKNOWN]  # which qwen?


def test_stop_it_asks_whether_the_run_or_the_server_is_meant(console: Understanding) -> None:
    (step,) = console.steps("stop it")
    assert {step.intent, *step.others} == {"CANCEL_WORK", "STOP_API_SERVER"}


def test_how_long_it_takes_is_the_progress(console: Understanding) -> None:
    assert [step.intent for step in console.steps("how long will that take?")] == ["SHOW_PROGRESS"]


def test_a_corrected_spelling_is_said(console: Understanding) -> None:
    (exact,), (typed,) = console.steps("stop the server"), console.steps("stpo the sevrer")
    assert (typed.intent, typed.arguments) == (exact.intent, exact.arguments)
    assert exact.confidence == 1
    assert typed.layer == FUZZY
    assert SURE <= typed.confidence < 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "?!",
        "\x00\x1b[2J",
        "load " * 5000,
        "a" * 1_000_000,
        "=" * 100_000,
        "/" * 50_000,
        "'" * 9999,
    ],
)
def test_no_input_breaks_it(text: str, console: Understanding) -> None:
    assert all(step.intent in (UNKNOWN, "LOAD_MODEL_API") for step in console.steps(text))


@pytest.mark.parametrize(
    "text",
    [
        "don't load mistral",
        "never unload llama",
        "do not stop the server",
        "load mistral or else",
        "load mistral tomorrow",
    ],
)
def test_a_word_that_is_not_understood_stops_everything(text: str, console: Understanding) -> None:
    assert [step.intent for step in console.steps(text)] == [UNKNOWN]


def test_the_time_for_a_long_sentence_does_not_double_with_each_step(console: Understanding) -> None:
    """Counted in parts that are read."""
    read = 0

    def count(part: object, *more: object) -> object:
        nonlocal read
        read += 1
        return readings(part, *more)  # type: ignore[arg-type]

    sentence = " and ".join(["compare mistral and qwen gguf"] * 11)
    with mock.patch("lqmf_runner.console.understanding.understand.readings", count):
        assert [step.intent for step in console.steps(f"{sentence} and frobnicate")] == [UNKNOWN]
    assert read < 2000


def test_a_word_that_is_not_understood_is_named_as_it_was_typed(console: Understanding) -> None:
    (step,) = console.steps("scale Linked to 2")
    assert step.unclear == ("Linked",)


def test_names_that_differ_in_signs_only_are_one_model() -> None:
    console = Understanding(["mini_bnb4", "mini_gptq4", "mini_bnb_4bit", "mini_gptq_4bit"])
    (part,), (whole,), (all_of_them,) = map(
        console.steps, ("chat with mini gptq", "chat with mini_gptq_4bit", "compare all mini models")
    )
    assert part.arguments == {"model": "mini_gptq4"}
    assert whole.arguments == {"model": "mini_gptq_4bit"}
    assert all_of_them.arguments["models"] == ["mini_bnb4", "mini_gptq4"]


@pytest.mark.parametrize(
    ("sentence", "intent", "arguments"),
    [
        ("promote version 2 of chat", "PROMOTE_VERSION", {"model": "chat", "version": "2"}),
        ("promote chat@2", "PROMOTE_VERSION", {"model": "chat", "version": "2"}),
        ("chat with chat", "CHAT_WITH_MODEL", {"model": "chat"}),
        ("roll back serve", "ROLL_BACK_VERSION", {"model": "serve"}),
        ("load list", "LOAD_MODEL_API", {"model": "list"}),
        ("ask chat what a cache is", "EXPERIMENT_WITH_MODEL",
         {"kind": "single", "models": ["chat"], "message": "what a cache is"}),
        ("promote version 2 of x", "PROMOTE_VERSION", {"model": "x", "version": "2"}),
        ("list models", "LIST_MODELS", {"scope": "available"}),
        ("serve mini", "START_API_SERVER", {"models": ["mini"]}),
    ],
)  # fmt: skip
def test_a_model_may_be_called_as_a_command(sentence: str, intent: str, arguments: dict[str, object]) -> None:
    (step,) = Understanding(["chat", "serve", "list", "x", "mini"]).steps(sentence)
    assert (step.intent, step.arguments, step.choices) == (intent, arguments, {})


def test_a_model_that_came_later_is_understood() -> None:
    console = Understanding(["mini"])
    assert [step.intent for step in console.steps("promote version 2 of fresh")] == [UNKNOWN]
    console.know(["mini", "fresh"])
    (step,) = console.steps("promote version 2 of fresh")
    assert step.arguments == {"model": "fresh", "version": "2"}


def test_served_versions_are_not_those_of_the_model_that_was_talked_about(console: Understanding) -> None:
    (step,) = console.steps("which of the two served versions is better?", ["qwen_gguf"])
    assert step.choices == {"model": [*NAMES]}


@pytest.mark.parametrize(
    ("text", "intent"),
    [("is qwen bnb4 loaded?", "LIST_MODELS"), ("are there any servers running?", "SHOW_API_STATUS")],
)
def test_a_question_does_nothing(text: str, intent: str, console: Understanding) -> None:
    assert [step.intent for step in console.steps(text)] == [intent]
