"""The command lines of programs that serve a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.config import ModelConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.formats import Format
from lqmf_runner.formats.sglang import SGLANG
from lqmf_runner.formats.vllm import VLLM
from lqmf_runner.models import locate

from ..support.models.tiny import make_checkpoint


def command(format: Format, **options: Any) -> str:
    assert format.program is not None
    backend = dataclasses.asdict(format.backend(**options))
    return " ".join(
        format.program.arguments(backend, model="/m", name="n", host="127.0.0.1", port=9, key_file="/k.yaml")
    )


def test_vllm_and_sglang_take_the_model_the_context_and_the_slots_by_their_own_names() -> None:
    assert command(VLLM, n_ctx=4096) == (
        "vllm serve /m --host 127.0.0.1 --port 9 --served-model-name n --max-model-len 4096 --max-num-seqs 256"
    )
    assert command(SGLANG, max_slots=4) == (
        "python3 -m sglang.launch_server --model-path /m --host 127.0.0.1 --port 9 --served-model-name n"
        " --max-running-requests 4 --config /k.yaml"
    )


def test_flags_are_written_as_the_programs_read_them() -> None:
    flags = {
        "tensor_parallel_size": 2,
        "enforce-eager": True,
        "trust_remote_code": False,
        "revision": None,
        "lora_modules": ["a=1", "b=2"],
    }
    assert command(VLLM, flags=flags).endswith(
        "--tensor-parallel-size 2 --enforce-eager --lora-modules a=1 b=2"
    )


@pytest.mark.parametrize("name", ["port", "max_model_len", "api_key", "served-model-name"])
def test_what_is_set_here_cannot_be_a_flag(name: str) -> None:
    with pytest.raises(UserInputError, match=rf"backend\.flags\.{name} is set by this program"):
        command(VLLM, flags={name: 1})


def test_sglang_takes_one_file_and_gets_the_keys() -> None:
    with pytest.raises(UserInputError, match=r"backend\.flags\.config is set by this program") as error:
        command(SGLANG, flags={"config": "mine.yaml"})
    assert "backend.flags" in (error.value.hint or "")


@pytest.mark.parametrize("flags", [{"a b": 1}, {"": 1}, {"x": {"y": 1}}])
def test_what_is_no_flag_is_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(UserInputError, match=r"backend\.flags"):
        VLLM.backend(flags=flags)  # type: ignore[call-arg]


def test_the_program_is_given_the_folder_or_the_id_on_the_hub(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "here")
    here = locate(ModelConfig(name="here"), VLLM.backend(), tmp_path)
    assert (here.format, here.path) == ("vllm", str(folder))
    there = locate(ModelConfig(name="there", hub_id="owner/name"), VLLM.backend(), tmp_path)
    assert there.path == "owner/name"


def test_a_command_is_needed() -> None:
    with pytest.raises(UserInputError, match=r"backend\.command is empty"):
        VLLM.backend(command=[])  # type: ignore[call-arg]
