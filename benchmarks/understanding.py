"""How much of plain English the console understands: tables for docs/console.md, by intent.

python benchmarks/understanding.py                        # the first two layers
python benchmarks/understanding.py smollm2_q4_k_m         # and this model, or others, as the third layer
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lqmf_runner.console.understanding.asked import ask_model
from lqmf_runner.console.understanding.steps import UNKNOWN, Step
from lqmf_runner.console.understanding.understand import Understanding
from lqmf_runner.engine import EngineClient
from tests.support.utterances import NAMES, Utterance, utterances

SETS = ("seen", "unseen")
_ALL = "**all**"
Understand = Callable[[str], Awaitable[list[Step]]]


def main(models: Sequence[str]) -> None:
    """Print a table for the first two layers, and one for each model that is asked as the third."""
    console = Understanding(NAMES)

    async def plain(sentence: str) -> list[Step]:
        return console.steps(sentence)

    asyncio.run(_measure("the first two layers", plain))
    for name in models:
        asyncio.run(_measure_with(name, console))


async def _measure_with(name: str, console: Understanding) -> None:
    engine = await _load(name)
    times: list[float] = []

    async def asked(sentence: str) -> list[Step]:
        found = console.steps(sentence)
        if found[0].intent != UNKNOWN:
            return found
        began = time.perf_counter()
        answer = await ask_model(engine, sentence, console.names)
        times.append(time.perf_counter() - began)
        return found if answer is None else [answer]

    try:
        await _measure(f"{name} as the third layer", asked)
        print(f"asked {len(times)} times, {sum(times) / max(len(times), 1):.2f} s each")
    finally:
        await engine.close()


async def _load(name: str) -> EngineClient:
    from hydra import compose, initialize_config_dir

    from lqmf_runner.app.compose import to_run_config
    from lqmf_runner.app.conf import conf_dir
    from lqmf_runner.app.hydra import register_schemas
    from lqmf_runner.engine import load_engine
    from lqmf_runner.models import locate

    register_schemas()
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        config = to_run_config(compose("config", overrides=["mode=console", f"model={name}"]))
    return await load_engine(locate(config.model, config.backend, config.models_dir))


async def _measure(title: str, understand: Understand) -> None:
    right: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    for name in SETS:
        for sentence in utterances(name):
            steps = await understand(sentence.text)
            good = sentence.matches(steps)
            for row in (_row(sentence), _ALL):
                total[name, row] += 1
                right[name, row] += good
            if not good:
                wrong.append(f"{name}: {sentence.text} → {_shown(steps)}")
    print(f"\n{title}\n\n| intent | seen | unseen |\n|---|---|---|")
    rows = dict.fromkeys(row for _, row in total if row != _ALL)
    for row in (*rows, _ALL):
        cells = (f"{right[name, row]} of {total[name, row]}" for name in SETS)
        print(f"| {row} | {' | '.join(cells)} |")
    for name in SETS:
        print(f"{name}: {right[name, _ALL] / total[name, _ALL]:.1%}")
    print(*wrong, sep="\n  ")
    scope = [(sentence.text, await understand(sentence.text)) for sentence in utterances("out_of_scope")]
    acted = [f"{text} → {_shown(steps)}" for text, steps in scope if steps[0].intent != UNKNOWN]
    print(f"out of scope: {len(acted)} of {len(scope)} not UNKNOWN", *acted, sep="\n  ")


def _row(sentence: Utterance) -> str:
    return sentence.intents[0] if len(sentence.intents) == 1 else "several steps"


def _shown(steps: Sequence[Step]) -> str:
    return "; ".join(f"{step.intent} {step.arguments} {step.confidence}" for step in steps)


if __name__ == "__main__":
    main(sys.argv[1:])
