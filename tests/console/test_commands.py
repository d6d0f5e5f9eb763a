"""The command line that each step becomes, and that Hydra and the program take it as it is meant."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec
import pytest

from lqmf_runner.app.arguments import typed_arguments
from lqmf_runner.app.cli import OPTIONS, OPTIONS_WITH_VALUE
from lqmf_runner.app.words import from_words
from lqmf_runner.config import BatchMode, BenchmarkMode, ChatMode, CompareMode, HistoryMode, QuantizeMode
from lqmf_runner.console.commands import Setting, command_of
from lqmf_runner.console.understanding.understand import Understanding
from lqmf_runner.errors import UserInputError
from tests.conftest import Compose
from tests.support.utterances import NAMES

UNDERSTANDING = Understanding(NAMES)
SERVED = Setting(server="http://127.0.0.1:9", port=9)


def _typed(arguments: Sequence[str]) -> list[str]:
    """As the command line reads them."""
    return typed_arguments(from_words(arguments, OPTIONS, OPTIONS_WITH_VALUE), sweep=False)


def _line(sentence: str, setting: Setting | None = None) -> str:
    (step,) = UNDERSTANDING.steps(sentence)
    return command_of(step, setting or Setting()).shown


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("start the server on port 9000", "lqmf serve model=null server.background=true server.port=9000"),
        ("serve qwen gguf and mistral", "lqmf serve qwen_gguf mistral_gptq4 server.background=true"),
        ("stop all servers", "lqmf stop all"),
        ("chat with llama", "lqmf chat llama32_bnb4"),
        ("compare llama and mistral with smollm2 bf16 as reference",
         "lqmf compare llama32_bnb4 mistral_gptq4 reference=smollm2_bf16"),
        ("run a conversation experiment with mistral",
         "lqmf benchmark mistral_gptq4 prompts=conversation"),
        ("answer all lines of q.csv with mistral", "lqmf batch mistral_gptq4 q.csv"),
        ("list experiments", "lqmf history"),
        ("what got worse since last week?",
         "lqmf history mode.since=7d mode.regressions=true mode.show=trend"),
        ("quantize smollm2 bf16 to 8 bit bnb", "lqmf quantize smollm2_bf16 bnb 8"),
        ("benchmark llama with 4 users and q.txt",
         "lqmf benchmark llama32_bnb4 prompts=q.txt 'mode.concurrency=[4]'"),
        ("compare llama and mistral under 2 GB",
         "lqmf compare llama32_bnb4 mistral_gptq4 verdict.max_memory_mb=2048"),
        ("compare llama and mistral with at least 20 tok/s",
         "lqmf compare llama32_bnb4 mistral_gptq4 verdict.min_tokens_per_s=20"),
        ("which is smallest with at least 12.5 tokens a second for 4 users?",
         "lqmf compare 'runs=[]' verdict.min_tokens_per_s=12.5 verdict.concurrency=4 verdict.weights.speed=0 "
         "verdict.weights.fidelity=0 tracking=none"),
        ("compare llama and mistral on q.csv", "lqmf compare llama32_bnb4 mistral_gptq4 prompts=q.csv"),
        ("which versions of llama are there?", "lqmf versions llama32_bnb4"),
        ("promote version 2 of llama", "lqmf versions llama32_bnb4@2 mode.alias=champion"),
        ("run 3 replicas of llama", "lqmf serve llama32_bnb4 server.background=true placement.replicas=3"),
        ("serve llama with 2 replicas", "lqmf serve llama32_bnb4 server.background=true placement.replicas=2"),
        ("chat with llama32_bnb4@champion", "lqmf chat llama32_bnb4@champion"),
        ("pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M", "lqmf pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M"),
    ],
)  # fmt: skip
def test_a_sentence_and_its_command_line(sentence: str, line: str) -> None:
    assert _line(sentence) == line


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("load mistral", "curl -X POST http://127.0.0.1:9/models/mistral_gptq4/load"),
        ("unload mistral", "curl -X POST http://127.0.0.1:9/models/mistral_gptq4/unload"),
        ("which models are loaded?", "curl http://127.0.0.1:9/models"),
        ("stop the server", "lqmf stop server.port=9"),
        ("judge the split of mistral", "lqmf compare mode.served=mistral_gptq4"),
        ("roll back mistral", "curl -X POST http://127.0.0.1:9/models/mistral_gptq4/rollback"),
        ("promote the candidate of mistral",
         "curl http://127.0.0.1:9/models/mistral_gptq4/promote -H 'Content-Type: application/json' "
         """-d '{"version": "candidate"}'"""),
        ("scale mistral to 2",
         "curl http://127.0.0.1:9/models/mistral_gptq4/scale -H 'Content-Type: application/json' "
         """-d '{"replicas": 2}'"""),
    ],
)  # fmt: skip
def test_what_a_running_server_does(sentence: str, line: str) -> None:
    assert _line(sentence, SERVED) == line


def test_what_is_shown_of_a_request_can_be_pasted_and_holds_no_key() -> None:
    setting = Setting(server="https://127.0.0.1:9", key="$LQMF_API_KEY", loaded=("my model", "b"), port=9)
    lines = _line("unload everything", setting).split("; ")
    header = '-H "Authorization: Bearer $LQMF_API_KEY"'
    assert lines == [
        f"curl -k -X POST {header} https://127.0.0.1:9/models/{name}/unload" for name in ("my%20model", "b")
    ]


def test_a_model_that_the_server_has_loaded_is_not_loaded_again() -> None:
    loaded = Setting(server="http://127.0.0.1:9", port=9, loaded=("mistral_gptq4",))
    where = "server.url=http://127.0.0.1:9"
    assert _line("chat with mistral", loaded) == f"lqmf chat mistral_gptq4 {where}"
    assert _line("ask mistral why", loaded) == f"lqmf chat mistral_gptq4 {where} why"
    assert _line("chat with llama", loaded) == "lqmf chat llama32_bnb4"


@pytest.mark.parametrize(
    ("sentence", "settings"),
    [
        ("benchmark llama with 8 users", {"concurrency": [8]}),
        ("benchmark llama with 1, 4 and 8 users", {"concurrency": [1, 4, 8]}),
        ("compare llama and mistral", {}),
        ("answer all lines of q.csv with mistral", {"input": "q.csv"}),
        ("history of llama since yesterday", {"model": "llama32_bnb4", "since": "1d", "show": "trend"}),
        ("make a q4_k_m gguf from smollm2 bf16", {"method": "gguf", "type": "Q4_K_M"}),
    ],
)
def test_the_program_takes_the_command_line(
    sentence: str, settings: dict[str, object], compose_config: Compose
) -> None:
    (step,) = UNDERSTANDING.steps(sentence)
    config = compose_config(*_typed(command_of(step, Setting()).arguments))
    assert isinstance(
        config.mode, (BatchMode, BenchmarkMode, ChatMode, CompareMode, HistoryMode, QuantizeMode)
    )
    assert {name: getattr(config.mode, name) for name in settings} == settings


@pytest.mark.parametrize(
    "text",
    [
        "What's the capital of France?",
        "@/etc/passwd",
        "-",
        "null",
        "${oc.env:HOME}",
        "'quoted'",
        "a=b,[c]{d}",
        "\\'",
        "ä 漢 😀",
    ],
)
def test_a_question_reaches_the_model_as_it_was_said(text: str, compose_config: Compose) -> None:
    (step,) = UNDERSTANDING.steps(f'ask mistral "{text}"')
    command = command_of(step, Setting())
    for arguments in (command.arguments, shlex.split(command.shown)[1:]):
        config = compose_config(*_typed(arguments))
        assert isinstance(config.mode, ChatMode)
        assert config.mode.message == text


def test_settings_of_the_console_hold_for_what_it_starts() -> None:
    setting = Setting(
        overrides=("server.port=1", "backend.n_ctx=512"), shown=("server.port=1", "backend.n_ctx=512")
    )
    assert _line("chat with llama", setting) == "lqmf chat llama32_bnb4 server.port=1 backend.n_ctx=512"
    assert _line("start the server on port 7", setting).endswith("server.port=7 backend.n_ctx=512")


def test_a_step_that_needs_a_server_says_so() -> None:
    for sentence in ("unload mistral", "roll back mistral"):
        with pytest.raises(UserInputError, match="no server is running"):
            _line(sentence)


@pytest.mark.parametrize("setting", [Setting(), SERVED], ids=["no server", "a server"])
@pytest.mark.parametrize(
    "sentence", ["promote version 2 of mistral", "make mistral_gptq4@2 the champion", "scale mistral to 2"]
)
def test_a_change_of_versions_or_replicas_is_asked_about(sentence: str, setting: Setting) -> None:
    (step,) = UNDERSTANDING.steps(sentence)
    assert command_of(step, setting).consent


@pytest.mark.parametrize("said", ["0", "-1", "many", "2.5"])
def test_a_number_of_replicas_is_one(said: str) -> None:
    (step,) = UNDERSTANDING.steps("scale mistral")
    answered = msgspec.structs.replace(step, arguments={**step.arguments, "replicas": said})
    with pytest.raises(UserInputError, match="no number of replicas"):
        command_of(answered, SERVED)


def test_a_recommendation_for_several_numbers_of_users_is_a_verdict_each() -> None:
    commands = [
        command_of(step, Setting()).shown for step in UNDERSTANDING.steps("best for 1, 4 and 8 users")
    ]
    assert commands == [
        f"lqmf compare 'runs=[]' verdict.concurrency={users} tracking=none" for users in (1, 4, 8)
    ]


def test_a_model_that_is_brought_up_is_loaded_where_a_server_runs() -> None:
    assert _line("bring up mistral", SERVED) == "curl -X POST http://127.0.0.1:9/models/mistral_gptq4/load"
    assert _line("bring up mistral") == "lqmf serve mistral_gptq4 server.background=true"


def test_of_several_servers_none_is_guessed() -> None:
    several = Setting(several=UserInputError("several servers run, none on port 8000"))
    for sentence in ("load mistral", "unload mistral", "which models are loaded?"):
        with pytest.raises(UserInputError, match="several servers run"):
            _line(sentence, several)


def test_bits_without_a_gguf_type_are_named() -> None:
    assert _line("convert smollm2 bf16 to 16 bit gguf") == "lqmf quantize smollm2_bf16 gguf F16"
    with pytest.raises(UserInputError, match="no GGUF type of 7 bits"):
        _line("convert smollm2 bf16 to 7 bit gguf")
