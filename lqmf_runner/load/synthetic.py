"""Synthetic requests: prompts of an exact number of tokens and answers of a given length, for loads of a known size."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..engine.client import EngineClient
from ..errors import LqmfError, UserInputError
from .conversations import Conversation

_TRIES = 20
_WORDS = (  # noqa: SIM905 (short and frequent, so that most are one token each)
    "apple river window garden yellow seven carry quiet under bridge candle morning letter paper stone follow winter "
    "north kitchen travel simple answer music finger market silver train across before engine picture mountain begin "
    "forest summer little doctor island corner shadow number bottle horse often glass between moving circle friend "
    "weather basket green castle story listen autumn narrow pocket table wheel sudden harbor copper dream eastern"
).split()


@dataclass(frozen=True)
class Length:
    """A number of tokens: `mean`, or normally distributed around it and at least 1."""

    mean: int
    std: float = 0.0

    def draw(self, rng: random.Random) -> int:
        """One length."""
        return max(1, round(rng.gauss(self.mean, self.std))) if self.std else self.mean


@dataclass(frozen=True)
class Synthetic:
    """Lengths of the requests to make up.

    Attributes:
        prompt: tokens of a prompt as the model sees it, a beginning-of-sequence token included.
        output: tokens of an answer.

    Raises:
        UserInputError: a number is out of range.
    """

    prompt: Length
    output: Length
    seed: int = 0

    def __post_init__(self) -> None:
        for name, length in (("prompt_tokens", self.prompt), ("output_tokens", self.output)):
            if length.mean < 1:
                raise UserInputError(
                    f"mode.synthetic.{name}={length.mean} is too small", hint="it must be at least 1"
                )
            if not 0 <= length.std < float("inf"):
                raise UserInputError(
                    f"mode.synthetic.{name}_std={length.std:g} is not valid", hint="it must be at least 0"
                )

    async def conversations(self, client: EngineClient, number: int) -> list[Conversation]:
        """So many requests, the same for the same seed and tokenizer; no two begin alike.

        Raises:
            UserInputError: the engine cannot tell tokens, or there is no such prompt.
        """
        rng = random.Random(self.seed)
        made = []
        for i in range(number):
            tokens, output = self.prompt.draw(rng), self.output.draw(rng)
            try:
                text = await exact_text(client, tokens, rng)
            except LqmfError as error:
                raise UserInputError(
                    f"no synthetic prompt of {tokens} tokens can be made: {error.message}",
                    hint="synthetic prompts need an endpoint with /tokenize and /detokenize "
                    "(vLLM, SGLang, llama-server), and more tokens than the model puts in front",
                ) from None
            made.append(Conversation(f"synthetic-{i}", (text,), plain=True, output_tokens=output))
        return made


async def exact_text(client: EngineClient, tokens: int, rng: random.Random) -> str:
    """Words that the model's tokenizer makes exactly so many tokens of, what it puts in front included.

    Cutting a text between two tokens may change how its end is tokenized, so the result is checked and mended.

    Raises:
        UserInputError: no such text was found.
    """
    for _ in range(_TRIES):
        words = " ".join(rng.choices(_WORDS, k=tokens + 8))
        ids = await client.tokenize(words)
        front = len(await client.tokenize(words, special=True)) - len(ids)
        keep = tokens - front
        for _ in range(_TRIES):
            if not 0 < keep <= len(ids):
                break
            text = await client.detokenize(ids[:keep])
            count = len(await client.tokenize(text, special=True))
            if count == tokens:
                return text
            keep += tokens - count
    raise UserInputError(f"no text of exactly {tokens} tokens was found")
