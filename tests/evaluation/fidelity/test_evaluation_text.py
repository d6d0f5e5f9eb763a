"""The evaluation text: the one that ships, any file, or a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from lqmf_runner.config import FidelityConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.evaluation.fidelity.evaluation_text import SHIPPED, load_text
from lqmf_runner.models.quantize.methods.calibration import SHIPPED as CALIBRATION


def test_the_shipped_text_is_varied_and_new() -> None:
    words, known = SHIPPED.read_text("utf-8").split(), CALIBRATION.read_text("utf-8").split()
    phrases = [tuple(words[i : i + 8]) for i in range(len(words) - 8)]
    assert len(set(phrases)) == len(phrases), "nothing is said twice"
    assert not set(phrases) & {tuple(known[i : i + 8]) for i in range(len(known) - 8)}
    text = load_text(FidelityConfig()).text
    assert len(text) > 40_000
    for sample in (
        "def parse_duration",
        "SELECT s.id",
        "Die Brücke",
        "La première fois",
        "北の町",
        "| Tungsten",
        "KING.",
    ):
        assert sample in text


def test_any_file_is_a_text_and_no_more_of_it_is_read_than_needed(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("word " * 10_000)
    text = load_text(FidelityConfig(text=str(file), max_tokens=512))
    assert (text.name, len(text.text)) == ("mine.txt", 512 * 32)
    assert text.digest != load_text(FidelityConfig()).digest
    file.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserInputError, match=r"mine\.txt cannot be read: it is not UTF-8"):
        load_text(FidelityConfig(text=str(file)))
    for content, what in ((b" \n", "is empty"), (b"MZ\0\0\x01", "is no text")):
        file.write_bytes(content)
        with pytest.raises(UserInputError, match=rf"mine\.txt {what}"):
            load_text(FidelityConfig(text=str(file)))
    with pytest.raises(UserInputError, match=r"none\.txt cannot be read: No such file"):
        load_text(FidelityConfig(text=str(tmp_path / "none.txt")))


def test_a_data_set_that_cannot_be_fetched_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("lqmf_runner.models.hub.hub_status", lambda what: "ConnectError")
    with pytest.raises(
        UserInputError, match=r"data set owner/name cannot be fetched from the hub \(ConnectError\)"
    ):
        load_text(FidelityConfig(dataset="owner/name"))
