"""Recognises a model from the content of its files, without loading it: format, size, parameters, version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..errors import ModelUnusableError
from ..formats import Format, format_of_file, labels, load_target
from .files.checkpoint import inspect_folder
from .files.gguf import FILE_TYPES, GgufHeader, GgufTensor, read_header, split_parts
from .found import FoundModel
from .version import content_version

_HEAD_BYTES = 64  # more than any magic number is long
_ANY_GGUF = "*.[gG][gG][uU][fF]"
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf\Z", re.IGNORECASE)
_PIECE = re.compile(r"\.gguf[.-](part|split)[-_]?(\d+of\d+|[a-z0-9]{1,3})\Z", re.IGNORECASE)
_UNFINISHED = (".part", ".incomplete", ".crdownload", ".download", ".aria2")
POOLING_NONE, POOLING_RANK = 0, 4  # enum llama_pooling_type


def inspect_model(path: str | Path, *, trust_remote_code: bool = False) -> FoundModel:
    """Recognise the folder or file at `path`.

    Raises:
        ModelUnusableError: it is damaged, of an unknown format, or refused as unsafe; the message names it.
    """
    place = Path(path)
    try:
        found = _inspect(place, trust_remote_code)
        return msgspec.structs.replace(found, version=content_version(found.path))
    except OSError as error:
        raise ModelUnusableError(f"{place.name}: cannot be read: {error.strerror}") from error
    except ModelUnusableError as error:
        hint = error.hint or "get the model's files again, or make them again with mode=quantize"
        raise type(error)(f"{place.name}: {error.message}", hint=hint) from error


def _inspect(place: Path, trust_remote_code: bool) -> FoundModel:
    if place.is_file():
        return _inspect_file(place, place.stem)
    if not place.is_dir():
        raise ModelUnusableError("there is no such folder or file")
    files = gguf_files(place)
    if is_checkpoint(place, files):
        return inspect_folder(place, trust_remote_code=trust_remote_code)
    if len(files) == 1:
        return inspect_gguf(files[0], name=place.name)
    if files:
        names = ", ".join(f.name for f in files)
        raise ModelUnusableError(
            f"it holds {len(files)} GGUF models: {names}", hint="name one: model.path=FOLDER/FILE"
        )
    raise ModelUnusableError(_nothing_here(place), hint=f"supported: {labels()}")


def _nothing_here(folder: Path) -> str:
    if (folder / "adapter_config.json").exists():
        return "it is an adapter (LoRA), not a whole model"
    if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin")):
        return "it has weights but no config.json"
    names = sorted(p.name for p in folder.iterdir())
    if later := [name for name in names if _PART.search(name)]:
        return f"{later[0]} is a part of a split model, and its first part is missing"
    if pieces := sorted((name for name in names if _PIECE.search(name)), key=lambda name: (len(name), name)):
        whole = _PIECE.sub(".gguf", pieces[0])
        return f"{pieces[0]} is a piece of a file that was cut; join them: cat {' '.join(pieces)} > {whole}"
    if unfinished := [name for name in names if name.endswith(_UNFINISHED)]:
        return f"its download is not finished ({unfinished[0]})"
    inner = sorted({p.parent.name for pattern in ("*/config.json", "*/*.gguf") for p in folder.glob(pattern)})
    if inner:
        return f"its models lie in subfolders, name one: model.path={folder.name}/{inner[0]}"
    return "it has neither a config.json nor a *.gguf file"


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF models in a folder: of a split one its first part only, and no files that go beside a model."""
    files = sorted(p for p in folder.glob(_ANY_GGUF) if not p.name.startswith("."))
    firsts = [f for f in files if "-of-" not in f.stem or f.stem.rpartition("-of-")[0].endswith("-00001")]
    return [f for f in firsts if not side_file(f)]


def is_checkpoint(folder: Path, ggufs: Sequence[Path]) -> bool:
    """Whether a folder is a Hugging Face checkpoint, also one that cannot be used.

    A config.json beside GGUF files alone is that of the model which they were made from.

    Args:
        ggufs: the GGUF models in it.
    """
    return (folder / "config.json").exists() and (any(folder.glob("*.safetensors")) or not ggufs)


def side_file(path: Path) -> str:
    """What a GGUF file is that goes beside a model: an adapter, a projector, an importance matrix, ...

    The file's own header says it. Empty for a model, and for what is no GGUF.
    """
    try:
        metadata = read_header(path).metadata
    except ModelUnusableError:
        return ""
    kind = str(metadata.get("general.type") or "model")
    if metadata.get("general.architecture") == "clip" or kind in ("mmproj", "clip-vision"):
        return "a projector (mmproj)"
    names = {"adapter": "an adapter (LoRA)", "imatrix": "an importance matrix"}
    return "" if kind == "model" else names.get(kind, f"a file of type '{kind[:40]}'")


def is_model_file(path: Path) -> bool:
    """Whether a file starts like a model of a format that is a single file; its name does not matter."""
    return _format_of(path) is not None


def _format_of(path: Path) -> Format | None:
    with path.open("rb") as stream:
        return format_of_file(stream.read(_HEAD_BYTES))


def _inspect_file(path: Path, name: str) -> FoundModel:
    format = _format_of(path)
    if format is None:
        return inspect_gguf(path, name=name)  # its error describes the fault of the file
    found: FoundModel = load_target(format.reader)(path, name=name)
    return found


def inspect_gguf(path: Path, *, name: str) -> FoundModel:
    """What the GGUF file at `path` is, all parts of a split one included.

    Raises:
        ModelUnusableError: it is damaged, or no model that can be used.
    """
    if what := side_file(path):
        raise ModelUnusableError(f"it is {what}, not a model")
    header = read_header(path)
    parts = split_parts(path, header)
    headers = [header, *(read_header(part) for part in parts[1:])]
    tensors = [tensor for h in headers for tensor in h.tensors]
    architecture = str(header.metadata.get("general.architecture", ""))
    if not tensors or not architecture:
        raise ModelUnusableError("the GGUF file holds no model: it has no tensors or no architecture")
    stored = sum(t.nbytes for t in tensors)
    parameters = sum(t.elements for t in tensors)
    method = _method(header, tensors)
    context = header.metadata.get(f"{architecture}.context_length", 0)
    return FoundModel(
        name=name,
        path=str(path),
        format="gguf",
        method=method,
        architecture=architecture,
        bits=_nominal_bits(method, 8 * stored / parameters),
        bits_per_weight=round(8 * stored / parameters, 3),
        size_mb=round(sum(h.size for h in headers) / 1e6, 3),
        parameters=parameters,
        weight_bytes=_bytes_per_token(header, tensors, architecture),
        embeddings=_is_embedder(header, architecture),
        context_length=context if isinstance(context, int) else 0,
    )


def _is_embedder(header: GgufHeader, architecture: str) -> bool:
    """Whether the file says how the tokens' vectors become one; a reranker's become a score instead.

    Raises:
        ModelUnusableError: it is a reranker.
    """
    pooling = header.metadata.get(f"{architecture}.pooling_type", POOLING_NONE)
    if pooling == POOLING_RANK:
        raise ModelUnusableError("it is a reranker, which neither generates nor gives embeddings")
    return isinstance(pooling, int) and pooling > POOLING_NONE


def _method(header: GgufHeader, tensors: list[GgufTensor]) -> str:
    file_type = header.metadata.get("general.file_type")
    if isinstance(file_type, int) and file_type in FILE_TYPES:
        return FILE_TYPES[file_type]
    totals: dict[str, int] = {}
    for tensor in tensors:
        totals[tensor.type] = totals.get(tensor.type, 0) + tensor.elements
    return max(totals, key=lambda name: totals[name])


def _nominal_bits(method: str, measured: float) -> float:
    digits = [c for c in method.removeprefix("I") if c.isdigit()]
    if method in ("F16", "BF16", "F32", "F64"):
        return float(method.lstrip("BF"))
    return float(digits[0]) if digits else round(measured, 1)


def _bytes_per_token(header: GgufHeader, tensors: list[GgufTensor], architecture: str) -> int:
    experts = header.metadata.get(f"{architecture}.expert_count", 0)
    used = header.metadata.get(f"{architecture}.expert_used_count", 0)
    sparse = isinstance(experts, int) and isinstance(used, int) and 0 < used < experts
    tied = not any(t.name == "output.weight" for t in tensors)
    total = 0
    for tensor in tensors:
        if tensor.name == "token_embd.weight" and not tied:
            continue
        total += tensor.nbytes * used // experts if sparse and "_exps." in tensor.name else tensor.nbytes
    return total
