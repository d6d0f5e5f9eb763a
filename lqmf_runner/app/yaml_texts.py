"""Texts in YAML files: taken as they are written, before OmegaConf reads them.

A plain `1e3`, `true` or `0x1F` where a text belongs is these characters, and `${...}` in a text that a model is sent
is not resolved. Which keys hold texts is in the schemas (`config/texts.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from ..config.texts import stored
from ..errors import UserInputError
from .schema import Place, place_of

_NULL = "tag:yaml.org,2002:null"
_STRING = "tag:yaml.org,2002:str"
_HEADER_LENGTH = 512  # characters, as in Hydra


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's source of YAML files, with the texts in them as they are written.

    It has the name of Hydra's own class: a process that a launcher starts registers that one again, which Hydra allows
    only under the same name.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file as Hydra does, but for its texts."""
        file = Path(self.path) / self._normalize_file_name(config_path)
        if not file.is_file():
            raise ConfigLoadError(f"Config not found : {file}")
        status = file.stat()
        header, values = _read(file, config_path, (status.st_mtime_ns, status.st_size))
        return ConfigResult(
            self.provider, f"{self.scheme()}://{self.path}", OmegaConf.create(values), dict(header)
        )


@functools.lru_cache(maxsize=256)
def _read(file: Path, config_path: str, changed: tuple[int, int]) -> tuple[dict[str, str | None], Any]:
    """The header and the values of a file. A run composes as many configurations as it has models, of the same files.

    Args:
        changed: when the file was written, and its size: another content is read again.
    """
    with file.open(encoding="utf-8") as stream:
        header = file_config_source.FileConfigSource._get_header_dict(stream.read(_HEADER_LENGTH))
        stream.seek(0)
        package = header.get("package") or config_path.rpartition("/")[0].replace("/", ".")
        return header, _load(stream, place_of("" if package == "_global_" else package))


def install() -> None:
    """Make Hydra read YAML files so."""
    Plugins.instance()  # registers Hydra's own sources, and would do it later
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource


def load_texts(path: Path, group: str) -> Any:
    """What a YAML file holds that stands for a group, or for a list in one, texts as OmegaConf stores them.

    Raises:
        UserInputError: it cannot be read as UTF-8 text.
        YAMLError: it is no YAML.
    """
    try:
        with path.open(encoding="utf-8-sig") as stream:
            return _load(stream, place_of(group))
    except (OSError, UnicodeDecodeError) as error:
        raise UserInputError(f"{path} cannot be read: {error}", hint="save it as text in UTF-8") from error


def _load(stream: TextIO, root: Place) -> Any:
    loader = get_yaml_loader()(stream)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}
        for scalar, place in _scalars(node, root, seen=set()):
            assert place.typed is not None
            scalar.tag, scalar.value = _STRING, stored(scalar.value, place.typed)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _scalars(
    node: yaml.Node, place: Place, seen: set[int], required: bool = False
) -> Iterator[tuple[yaml.ScalarNode, Place]]:
    """The scalars where a text belongs, each once. A null is one only where a text is required."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        is_null = node.tag == _NULL and not (required and node.value)
        if place.typed is not None and not is_null:
            yield node, place
    elif isinstance(node, yaml.SequenceNode) and place.items is not None:
        for item in node.value:
            yield from _scalars(item, place.items, seen, required=True)
    elif isinstance(node, yaml.MappingNode) and place.has_keys:
        node.value = [(key, _as_list(value, place.child(str(key.value)))) for key, value in node.value]
        for key, value in node.value:
            yield from _scalars(value, place if key.value == "<<" else place.child(str(key.value)), seen)


def _as_list(node: yaml.Node, place: Place) -> yaml.Node:
    """A single text where a list of them belongs is a list of one."""
    is_list = place.items is not None and place.items.typed is not None
    if not (is_list and isinstance(node, yaml.ScalarNode)) or node.tag == _NULL or "${" in node.value:
        return node
    return yaml.SequenceNode("tag:yaml.org,2002:seq", [node], node.start_mark, node.end_mark)
