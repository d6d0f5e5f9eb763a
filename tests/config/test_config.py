from __future__ import annotations

import dataclasses

import pytest

from lqmf_runner.app.conf import conf_names
from lqmf_runner.app.schema import group_schemas
from lqmf_runner.config import (
    BackendConfig,
    BatchMode,
    BenchmarkMode,
    FidelityConfig,
    Prompt,
    PromptsConfig,
    QuantizeMode,
    RunConfig,
    SamplingConfig,
)
from lqmf_runner.errors import UserInputError
from lqmf_runner.formats.bnb import BnbBackend
from lqmf_runner.formats.gguf import GgufBackend
from lqmf_runner.formats.gptq import GptqBackend
from lqmf_runner.formats.openai import OpenAIBackend
from lqmf_runner.formats.transformers import TransformersBackend

from ..conftest import Compose

PROMISED_MODELS = [
    *("smollm2_gguf", "smollm2_q4_k_m", "smollm2_bnb4", "smollm2_bnb8", "smollm2_gptq4", "smollm2_bf16"),
    *("qwen_bnb4", "qwen_bnb8", "qwen_gptq4", "qwen_gguf", "llama32_bnb4", "mistral_gptq4"),
]


@pytest.mark.parametrize(
    "group", ["model", "backend", "prompts", "mode", "tracking", "placement", "experiment"]
)
def test_every_yaml_composes_into_its_schema(group: str, compose_config: Compose) -> None:
    for name in conf_names(group):
        overrides = [f"{group}={name}"]
        if group not in ("mode", "experiment"):
            overrides.append("mode=models")
        if name == "local":
            overrides.append("model.name=some_folder")
        config = compose_config(*overrides)
        assert dataclasses.is_dataclass(getattr(config, group, config))


def test_all_promised_models_exist(compose_config: Compose) -> None:
    assert set(PROMISED_MODELS) <= set(conf_names("model"))
    for name in PROMISED_MODELS:
        assert compose_config("mode=models", f"model={name}").model.name == name


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        ("smollm2_gguf", GgufBackend),
        ("smollm2_bnb4", BnbBackend),
        ("smollm2_gptq4", GptqBackend),
        ("smollm2_bf16", TransformersBackend),
        ("openai", OpenAIBackend),
    ],
)
def test_a_model_picks_its_backend(model: str, backend: type[BackendConfig], compose_config: Compose) -> None:
    assert type(compose_config("mode=models", f"model={model}").backend) is backend


@pytest.mark.parametrize(
    "order", [("backend=auto", "model=smollm2_bnb4"), ("model=smollm2_bnb4", "backend=auto")]
)
def test_a_backend_on_the_command_line_wins(order: tuple[str, str], compose_config: Compose) -> None:
    assert type(compose_config("mode=models", *order).backend) is BackendConfig


def test_a_hub_checkpoint_for_8_bit_is_quantized_while_it_loads(compose_config: Compose) -> None:
    backend = compose_config("mode=models", "model=qwen_bnb8").backend
    assert isinstance(backend, BnbBackend)
    assert backend.quantize_on_load == "8bit"


def test_a_folder_without_yaml_is_named_on_the_command_line(compose_config: Compose) -> None:
    config = compose_config("mode=models", "model=local", "model.name=some_folder")
    assert (config.model.name, config.model.path, config.backend.format) == ("some_folder", None, "auto")


def test_configurations_are_plain_frozen_objects(compose_config: Compose) -> None:
    config = compose_config("mode=benchmark", "backend.n_ctx=512", "mode.concurrency=[2]")
    assert isinstance(config.backend, GgufBackend)
    assert isinstance(config.mode, BenchmarkMode)
    assert config.backend.n_ctx == 512
    assert type(config.mode.concurrency) is list
    assert config.mode.concurrency == [2]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.backend.n_ctx = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("group", "name"), [(g, n) for g in ("backend", "mode", "tracking") for n in group_schemas()[g]]
)
def test_yaml_and_schema_agree_on_defaults(group: str, name: str, compose_config: Compose) -> None:
    overrides = [f"mode={name}"] if group == "mode" else ["mode=models", f"{group}={name}"]
    assert getattr(compose_config(*overrides), group) == group_schemas()[group][name]()


@pytest.mark.parametrize(
    "part", ["server", "verdict", "fidelity", "similarity", "judge", "tracking", "placement", "ray"]
)
def test_yaml_and_schema_agree_on_what_every_run_has(part: str, compose_config: Compose) -> None:
    assert getattr(compose_config("mode=models"), part) == getattr(RunConfig(), part)


def test_yaml_and_schema_agree_on_what_is_at_the_root(compose_config: Compose) -> None:
    composed, defaults = compose_config("mode=models"), RunConfig()
    for name in ("models", "runs", "reference", "models_dir", "output_dir"):
        assert getattr(composed, name) == getattr(defaults, name)


@pytest.mark.parametrize("name", ["general", "reasoning", "code", "summarize", "conversation"])
def test_prompt_sets_are_of_use(name: str, compose_config: Compose) -> None:
    prompts = compose_config("mode=models", f"prompts={name}").prompts
    assert prompts.name == name
    assert len(prompts.entries) >= 16
    texts = [entry.prompt or "\n".join(entry.turns) for entry in prompts.entries]
    assert len(set(texts)) == len(texts)
    assert max(map(len, texts)) > 2 * min(map(len, texts))
    if name == "conversation":
        assert all(len(entry.turns) >= 3 for entry in prompts.entries)
    if name == "reasoning":
        assert all(entry.reference for entry in prompts.entries)


def test_an_empty_prompt_set_is_refused() -> None:
    with pytest.raises(UserInputError, match="'mine' is empty") as caught:
        PromptsConfig(name="mine")
    assert caught.value.hint


def test_a_prompt_set_with_a_repeated_id_is_refused() -> None:
    with pytest.raises(UserInputError, match="'a' more than once"):
        PromptsConfig(name="mine", entries=[Prompt(id="a", prompt="x"), Prompt(id="a", prompt="y")])


@pytest.mark.parametrize("entry", [{}, {"prompt": "x", "turns": ["y"]}])
def test_a_prompt_has_either_one_turn_or_several(entry: dict[str, object]) -> None:
    with pytest.raises(UserInputError, match="either prompt or turns"):
        Prompt(id="a", **entry)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: GgufBackend(n_ctx=0),
        lambda: GgufBackend(max_slots=0),
        lambda: GgufBackend(step_timeout_s=0.0),
        lambda: GgufBackend(device="tpu"),
        lambda: BnbBackend(dtype="int3"),
        lambda: QuantizeMode(method="awq"),
        lambda: SamplingConfig(temperature=float("nan")),
        lambda: SamplingConfig(top_p=7.0),
        lambda: SamplingConfig(max_tokens=0),
        lambda: BatchMode(retry_wait_s=-1.0),
        lambda: BenchmarkMode(burst=0),
    ],
)
def test_values_out_of_range_are_refused(make: type) -> None:
    with pytest.raises(UserInputError) as caught:
        make()
    assert caught.value.hint


@pytest.mark.parametrize(
    "make",
    [
        lambda: FidelityConfig(max_tokens=100),
        lambda: FidelityConfig(divergence_tokens=-1),
        lambda: FidelityConfig(dtype="int8"),
        lambda: FidelityConfig(text="a", dataset="b/c"),
    ],
)
def test_fidelity_settings_that_cannot_be_run_are_refused(make: type) -> None:
    with pytest.raises(UserInputError) as caught:
        make()
    assert caught.value.hint


def test_a_split_has_the_users_keys(compose_config: Compose) -> None:
    config = compose_config("mode=serve", "server.split={champion: 90, candidate: 10}")
    assert config.server.split == {"champion": 90.0, "candidate": 10.0}
    for wrong in ("{champion: -1}", "{champion: 0}"):
        with pytest.raises(UserInputError, match=r"server\.split"):
            compose_config("mode=serve", f"server.split={wrong}")
