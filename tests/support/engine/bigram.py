"""An engine without a model: the next token depends on the last one alone, by a table. Scores as a worker does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from lqmf_runner.engine.worker.window_sink import WindowScorer
from lqmf_runner.types import Chunk, GenerationRequest, ModelInfo, OptionLogprobs, Usage, Window, WindowScore
from tests.support.engine.scripted import INFO, ScriptedEngine

N_VOCAB = 256


def table(seed: int = 0, n_vocab: int = N_VOCAB) -> NDArray[np.float32]:
    """Logits of the next token by the last one."""
    return (np.random.default_rng(seed).normal(0, 3, (n_vocab, n_vocab))).astype(np.float32)


class BigramEngine(ScriptedEngine):
    """Tokens are bytes."""

    def __init__(self, logits: NDArray[np.float32], **info: object) -> None:
        details = {"n_vocab": logits.shape[1], "n_ctx": 512, "chat_template": False} | info
        known: ModelInfo = msgspec.structs.replace(INFO, **details)
        super().__init__(lambda number, request: [], info=known)
        self.logits = logits
        self.windows = 0
        self._scorer = WindowScorer(logits.shape[1], 2)

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    async def score_window(self, window: Window) -> WindowScore:
        self.windows += 1
        sink = self._scorer.sink(window)
        rows = self.logits[window.tokens]
        middle = (window.first + len(window.tokens)) // 2  # in two steps, as a scheduler may
        sink.take(sink.first_row, rows[sink.first_row : middle])
        sink.take(middle, rows[middle:])
        return sink.result(0)

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        """As if the answer were one byte, which depends on the sum of the prompt's bytes."""
        text = request.prompt or (request.messages or ())[-1].content
        row = self.logits[sum(text.encode()) % N_VOCAB].astype(float)
        logprobs = row - np.log(np.exp(row).sum())
        values = [np.log(sum(np.exp(logprobs[form.encode()[0]]) for form in set(forms))) for forms in options]
        return OptionLogprobs(logprobs=tuple(map(float, values)), prompt_tokens=1, cached_tokens=0)

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        last = (request.prompt or (request.messages or ())[-1].content).encode()[-1]
        tokens = []
        for _ in range(request.sampling.max_tokens or 0):
            last = int(self.logits[last].argmax())
            tokens.append(last)
        yield [Chunk(token_ids=tuple(tokens), finish_reason="length", usage=Usage())]
