"""The text of a model's chat template, read from its files without loading anything."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from ...errors import ModelUnusableError
from .gguf import read_header

WITH_TOOLS = "tool_use"
_GGUF_KEY = "tokenizer.chat_template"


def chat_template(path: Path) -> str:
    """The template of a folder or GGUF file; of several the one for tools, otherwise the default. Empty if there is
    none.
    """
    named: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, ModelUnusableError):
        named = _of_folder(path) if path.is_dir() else _of_gguf(path)
    found = named.get(WITH_TOOLS) or named.get("default")
    return found if isinstance(found, str) else ""


def _of_gguf(path: Path) -> dict[str, Any]:
    metadata = read_header(path).metadata
    return {"default": metadata.get(_GGUF_KEY), WITH_TOOLS: metadata.get(f"{_GGUF_KEY}.{WITH_TOOLS}")}


def _of_folder(folder: Path) -> dict[str, Any]:
    extra = folder / "additional_chat_templates" / f"{WITH_TOOLS}.jinja"
    named: dict[str, Any] = {WITH_TOOLS: extra.read_text(encoding="utf-8")} if extra.is_file() else {}
    single = folder / "chat_template.jinja"
    if single.is_file():
        return {"default": single.read_text(encoding="utf-8"), **named}
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    given = settings.get("chat_template") if isinstance(settings, dict) else None
    if isinstance(given, list):
        pairs = [one for one in given if isinstance(one, dict)]
        return {str(one.get("name")): one.get("template") for one in pairs} | named
    return {"default": given, **named}
