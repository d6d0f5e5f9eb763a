"""Makes a quantized model: child process, proof in a second one, metadata, publication."""

from __future__ import annotations

import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from ...cgroup import usable_cores
from ...config import QuantizeMode
from ...errors import LqmfError, QuantizationError, UserInputError
from ...formats import get_format
from ...results.lineage import Origin
from ..found import FoundModel
from ..inspect import inspect_model
from ..lineage import METADATA_FILE, read_origins
from .base import Job, Proof, QuantizationMethod, Report
from .methods import get_method
from .process import run_job
from .proof import require
from .staging import require_space, staging

SCHEMA_VERSION = 1
PACKAGES = (
    "lqmf_runner",
    "torch",
    "transformers",
    "bitsandbytes",
    "gptqmodel",
    "optimum",
    "llama-cpp-python",
    "gguf",
)


class QuantizationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What `lqmf.json` beside the weights says about how they were made. `origins`: the source and its own origins."""

    schema_version: int = SCHEMA_VERSION
    name: str
    source: str
    source_version: str
    origins: list[Origin] = []
    method: str
    parameters: dict[str, Any]
    version: str
    size_mb: float
    bits_per_weight: float
    proof: Proof
    compared_with: str
    packages: dict[str, str]
    created_at: str

    def summary(self) -> str:
        """Size and proof in one line."""
        proof = self.proof
        text = (
            f"{self.name}: {self.size_mb:.0f} MB, {self.bits_per_weight:.2f} bits per weight; reloaded and compared "
            f"with {'memory' if self.compared_with == 'memory' else 'its source'} over {proof.tokens} tokens: "
            f"max |Δ logit| {proof.max_abs_diff:.3g}, top-1 {proof.top1_agreement:.1%}"
        )
        if proof.source_kld is not None and proof.source_top1_agreement is not None:
            text += f"; against {self.source}: KLD {proof.source_kld:.3f}, top-1 {proof.source_top1_agreement:.1%}"
        return text


class Quantized(msgspec.Struct, frozen=True, kw_only=True):
    """A finished quantization; `made` is False when it was there already."""

    path: str
    made: bool
    record: QuantizationRecord


def quantize(
    source: FoundModel, name: str, mode: QuantizeMode, models_dir: Path, report: Report | None = None
) -> Quantized:
    """Make `models_dir/<output>` from `source`, or find that it is there.

    Args:
        name: the source model's name; it begins the default name of the result.

    Raises:
        UserInputError: the source or a setting does not fit, or another result has the name.
        QuantizationError: it failed; nothing is left behind.
    """
    report = report or (lambda stage, done, total: None)
    method = get_method(mode.method)
    parameters = method.parameters(mode)
    output = output_name(name, mode)
    if not get_format(source.format).quantization_source:
        raise UserInputError(
            f"{name} is quantized already ({source.method})",
            hint="start from an unquantized model or a GGUF, e.g. model=smollm2_gguf",
        )
    target = models_dir / output
    if target.exists() or target.is_symlink():
        record = existing_record(target)
        if record is not None and _matches(record, method.name, parameters, source):
            return Quantized(path=str(target), made=False, record=record)
        if not mode.overwrite:
            raise UserInputError(
                f"{output} exists and was made differently",
                hint="set mode.overwrite=true, or mode.output=<name>",
            )
    method.check(source, parameters)
    require_space(models_dir, method.disk_bytes(source, parameters))
    try:
        return _make(source, name, output, method, parameters, models_dir, mode, report)
    except OSError as error:
        raise QuantizationError(f"{output} could not be written: {error.strerror or error}") from error


def _make(
    source: FoundModel,
    name: str,
    output: str,
    method: QuantizationMethod,
    parameters: dict[str, Any],
    models_dir: Path,
    mode: QuantizeMode,
    report: Report,
) -> Quantized:
    start = Origin(name=name, version=source.version, method=source.method, bits=source.bits)
    origins = [start, *read_origins(source.path)]
    with staging(models_dir, output) as area:
        job = Job(
            task="make",
            method=method.name,
            parameters=parameters,
            source=str(Path(source.path).resolve()),
            source_format=source.format,
            out=str(area.model.resolve()),
            scratch=str(area.scratch.resolve()),
            threads=usable_cores(),
            calibration=str(Path(mode.calibration).resolve()) if mode.calibration else None,
            origins=origins,
        )
        run_job(job, report)
        answer = run_job(msgspec.structs.replace(job, task="prove"), report)
        proof = msgspec.convert(answer["proof"], Proof)
        require(proof, method.max_relative_rms)
        found = _inspect_result(area.model)
        record = QuantizationRecord(
            name=output,
            source=name,
            source_version=source.version,
            origins=origins,
            method=method.name,
            parameters=parameters,
            version=found.version,
            size_mb=found.size_mb,
            bits_per_weight=found.bits_per_weight,
            proof=proof,
            compared_with=method.compared_with,
            packages=_versions(),
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        text = msgspec.json.format(msgspec.json.encode(record), indent=2)
        (area.model / METADATA_FILE).write_bytes(text + b"\n")
        area.publish(replace=mode.overwrite)
    return Quantized(path=str(models_dir / output), made=True, record=record)


def existing_record(folder: Path) -> QuantizationRecord | None:
    """The record beside a model's weights, if it is there, readable, and its model is whole."""
    try:
        record = msgspec.json.decode((folder / METADATA_FILE).read_bytes(), type=QuantizationRecord)
        return record if inspect_model(folder).version == record.version else None
    except (OSError, msgspec.MsgspecError, LqmfError):
        return None


def output_name(name: str, mode: QuantizeMode) -> str:
    """What the model that is made from the one of this name is called.

    Raises:
        UserInputError: `mode.output` is no name, or a setting does not fit the method.
    """
    method = get_method(mode.method)
    default = f"{base_name(name)}_{method.suffix(method.parameters(mode))}"
    return check_name(mode.output or default, "mode.output")


def base_name(name: str) -> str:
    """The model's own name, without the ending that says how it was stored: smollm2_gguf → smollm2."""
    for ending in ("_gguf", "_bf16"):
        if name.endswith(ending) and name != ending:
            return name.removesuffix(ending)
    return name


def check_name(name: str, setting: str) -> str:
    """Refuse a name that is a path.

    Raises:
        UserInputError: it is empty, hidden, or would leave its folder.
    """
    if not name or name.startswith(".") or any(c in name for c in "/\\\0") or len(name.encode()) > 200:
        raise UserInputError(
            f"{setting}={name!r} is not a name", hint="a name has no slashes and no leading dot"
        )
    return name


def _inspect_result(folder: Path) -> FoundModel:
    try:
        return inspect_model(folder)
    except LqmfError as error:
        raise QuantizationError(f"the result cannot be read: {error.message}") from error


def _matches(record: QuantizationRecord, method: str, parameters: dict[str, Any], source: FoundModel) -> bool:
    return (record.method, record.parameters, record.source_version) == (method, parameters, source.version)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
