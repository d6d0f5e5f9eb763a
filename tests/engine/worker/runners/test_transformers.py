"""What the contract suite stands on: every format is in it, and its reference would notice a missing feature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lqmf_runner.formats import FORMATS

from ....support.models.architectures import Reference, make_architecture
from ...conftest import CASES, NOISE, TOLERANCE


def test_every_format_is_held_to_this_contract() -> None:
    made_elsewhere = {"gptq"}  # calibrating takes a minute: the demo model stands for it
    assert {case.split("-")[0] for case in CASES} | made_elsewhere == {
        format.name for format in FORMATS if not format.remote
    }


@pytest.mark.parametrize(
    ("architecture", "without"),
    [
        ("mistral_window", {"sliding_window": None}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma2", {"final_logit_softcapping": None}),
        ("gemma2", {"sliding_window": 512}),
    ],
)
def test_the_reference_would_tell_if_a_feature_were_missing(
    tmp_path: Path, architecture: str, without: dict[str, object]
) -> None:
    folder = make_architecture(tmp_path / "model", architecture)
    expected = Reference(folder).logprobs(NOISE)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | without))
    assert np.abs(Reference(folder).logprobs(NOISE) - expected).max() > 10 * TOLERANCE["gguf"]
