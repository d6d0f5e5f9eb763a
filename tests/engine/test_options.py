"""How likely options are, summed from next-token scores."""

from __future__ import annotations

import math

import pytest

from lqmf_runner.engine.options import PreparedOptions, encode_options
from lqmf_runner.types import NextTokenLogprobs


def test_forms_are_added_up_and_long_labels_multiplied_out() -> None:
    encode = {"a": [1], " a": [2], "b": [3, 4], " b": [5, 6], "c": [3, 7]}.__getitem__
    prepared = PreparedOptions([9], encode_options([["a", " a"], ["b", " b"], ["c"]], encode))
    contexts = prepared.contexts()
    assert contexts == [([9], [1, 2, 3]), ([9, 3], [4, 7])]
    told = [[0.1, 0.2, 0.5], [0.25, 0.75]]
    given = [
        NextTokenLogprobs(logprobs=tuple(map(math.log, row)), cached_tokens=i) for i, row in enumerate(told)
    ]
    combined = prepared.combine(contexts, given)
    assert [math.exp(value) for value in combined.logprobs] == pytest.approx([0.3, 0.125, 0.375])
    assert (combined.prompt_tokens, combined.cached_tokens) == (1, 0)
