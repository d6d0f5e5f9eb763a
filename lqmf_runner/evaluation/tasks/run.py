"""Accuracy on tasks of lm-evaluation-harness, which runs here as a library over our engines.

The harness is synchronous: it runs in a thread, and `EngineLM` hands its requests to the event loop of the engine, many
at a time. It needs neither torch nor transformers for this.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
import math
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...concurrent import for_each
from ...engine.client import EngineClient
from ...errors import EngineError, LqmfError, MissingDependencyError, UserInputError
from ...install import install_line
from ...models.hub import hub_status
from ...types import GenerationRequest, SamplingParams

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

T = TypeVar("T")
SHIPPED = Path(__file__).parent / "sets"
_FEWSHOT_SEED = 1234  # the harness's own default
_BOOTSTRAP = 1000  # resamples for the error of metrics that are no means
_MAX_GENERATED = 256

OnBatch = Callable[[str, int], None]
OnAnswer = Callable[[int], None]


class Tasks:
    """Tasks that are loaded, with their data sets: names of the harness, of ours, or YAML files.

    Loading reads data sets, perhaps from the hub, and takes seconds: do it in a thread.

    Raises:
        MissingDependencyError: the harness is not installed.
        UserInputError: there is no such task, its file is wrong, or its data set cannot be fetched.
    """

    def __init__(self, names: Sequence[str], limit: int | None = None) -> None:
        try:
            from lm_eval.tasks import TaskManager
        except ImportError:
            raise MissingDependencyError(
                "tasks need lm-evaluation-harness, which is not installed",
                hint=install_line("eval"),
            ) from None
        self._limit = limit
        files = {path.stem: str(path) for path in SHIPPED.glob("*.yaml")}
        specs = [files.get(name) or _own_file(name) or name for name in names]
        ours = all(spec.endswith((".yaml", ".yml")) for spec in specs)
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        manager = TaskManager(include_defaults=not ours)
        known = [*files, *manager.all_tasks]
        self._loaded: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
        with _no_long_retries(needed=not set(names) <= set(files)):
            for name, spec in zip(names, specs, strict=True):
                for part, found in _load(manager, name, spec, known).items():
                    self._loaded[part] |= found
        for task in self._loaded["tasks"].values():
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=_FEWSHOT_SEED)

    async def measure(
        self, client: EngineClient, *, on_batch: OnBatch, on_answer: OnAnswer
    ) -> dict[str, dict[str, float]]:
        """Metrics of each task (and group) under its name, as `metric` and `metric_stderr`; `n` documents.

        `on_batch` gets the kind and the number of the next requests, `on_answer` the number of answered ones.

        Raises:
            LqmfError: the engine failed on a request, or cannot give log-probabilities.
        """
        model = EngineLM(client, asyncio.get_running_loop(), on_batch, on_answer)
        results = await _in_daemon_thread(lambda: self._evaluate(model))
        counts = results.get("n-samples", {})
        return {
            name: {**_metrics(values), **({"n": counts[name]["effective"]} if name in counts else {})}
            for name, values in results["results"].items()
        }

    def _evaluate(self, model: EngineLM) -> dict[str, Any]:
        from lm_eval.api import model as harness_model
        from lm_eval.api import task as harness_task
        from lm_eval.evaluator import evaluate

        harness_model.LM.register(EngineLM)
        harness_task.tqdm = lambda documents, **_: documents  # its progress bars would disturb ours
        found = evaluate(
            lm=model, task_dict=self._loaded, limit=self._limit, bootstrap_iters=_BOOTSTRAP, log_samples=False,
            verbosity="ERROR",
        )  # fmt: skip
        assert found is not None
        return dict(found)


class EngineLM:
    """An engine as the harness's `LM`. Its methods are called in another thread than the engine's event loop.

    Texts are tokenized with what the model usually has in front (a beginning-of-sequence token, or nothing).
    """

    rank, world_size, device = 0, 1, "cpu"

    def __init__(
        self,
        client: EngineClient,
        loop: asyncio.AbstractEventLoop,
        on_batch: OnBatch = lambda *_: None,
        on_answer: OnAnswer = lambda _: None,
    ) -> None:
        self._client = client
        self._loop = loop
        self._on_batch = on_batch
        self._on_answer = on_answer

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Log-probability of each continuation given its context, and whether greedy decoding would say it."""
        return self._each(requests, "loglikelihood", lambda args: self._continuation(*args))

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Log-probability of each whole text, in windows of the model's context if it is longer."""
        return self._each(requests, "loglikelihood_rolling", lambda args: self._rolling(*args))

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Each context completed, greedily unless the task says otherwise, up to a stop string."""
        return self._each(requests, "generate_until", lambda args: self._generate(*args))

    def _each(
        self, requests: Sequence[Instance], what: str, answer: Callable[[tuple[Any, ...]], Awaitable[T]]
    ) -> list[T]:
        """The answers to all requests in their order. As many run at a time as the engine has slots."""

        async def all_of_them() -> list[T]:
            found: dict[int, T] = {}

            async def one(numbered: tuple[int, Instance]) -> None:
                found[numbered[0]] = await answer(numbered[1].args)
                self._on_answer(len(found))

            self._on_batch(what, len(requests))
            await for_each(enumerate(requests), one, at_a_time=max(1, self._client.info.max_slots))
            return [found[number] for number in range(len(requests))]

        return asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result()

    async def _continuation(self, context: str, continuation: str) -> tuple[float, bool]:
        spaces = len(context) - len(context.rstrip())
        if spaces:  # they belong to the next word in most tokenizers
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        if context:
            start = len(await self._client.tokenize(context, special=True))
            tokens = await self._client.tokenize(context + continuation, special=True)
        else:
            tokens, start = await self._with_front(continuation)
        start = min(start, len(tokens) - 1)
        # The beginning of a context that is too long is dropped.
        if (limit := self._client.info.n_ctx) and len(tokens) > limit:
            start = max(1, start - (len(tokens) - limit))
            tokens = tokens[-limit:]
        return await self._score(tokens, start)

    async def _rolling(self, text: str) -> float:
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        tokens, start = await self._with_front(text)
        limit = (self._client.info.n_ctx or 2048) - 1
        windows = get_rolling_token_windows(tokens[start:], tokens[start - 1], limit, 1)
        total = 0.0
        for context, target in map(make_disjoint_window, windows):
            total += (await self._score([*context, *target], len(context)))[0]
        return total

    async def _with_front(self, text: str) -> tuple[list[int], int]:
        """Tokens of a text without context, and the index of its first token: after the model's own first token, or
        after a line feed if it has none, because the first token cannot be scored without context.
        """
        plain = await self._client.tokenize(text)
        tokens = await self._client.tokenize(text, special=True)
        if len(tokens) > len(plain):
            return tokens, len(tokens) - len(plain)
        front = await self._client.tokenize("\n")
        return [*front, *plain], len(front)

    async def _score(self, tokens: list[int], start: int) -> tuple[float, bool]:
        score = await self._client.score(tokens)
        values = [value for value in score.logprobs[start:] if value is not None]
        if not values or any(math.isnan(value) for value in values):
            raise EngineError(f"'{self._client.info.name}' gives no log-probabilities (NaN, or none at all)")
        return math.fsum(values), all(score.greedy[start:])

    async def _generate(self, context: str, options: dict[str, Any]) -> str:
        until = options.get("until") or ()
        sampled = bool(options.get("do_sample", options.get("temperature", 0.0)))
        sampling = SamplingParams(
            max_tokens=int(options.get("max_gen_toks") or options.get("max_new_tokens") or _MAX_GENERATED),
            temperature=float(options.get("temperature", 1.0)) if sampled else 0.0,
            top_p=float(options.get("top_p", 1.0)),
            top_k=int(options.get("top_k", 0)),
            stop=(until,) if isinstance(until, str) else tuple(until),
            seed=0,
        )
        return (await self._client.complete(GenerationRequest(prompt=context, sampling=sampling))).text


async def _in_daemon_thread(work: Callable[[], T]) -> T:
    """As `asyncio.to_thread`, but an interrupted program does not wait for the thread to end."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if outcome.cancelled():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="tasks", daemon=True).start()
    return await outcome


def _load(manager: Any, name: str, spec: str, known: Sequence[str]) -> dict[str, Any]:
    if spec.endswith((".yaml", ".yml")) and not Path(spec).is_file():
        raise UserInputError(f"there is no task file {name}", hint="correct mode.tasks=")
    try:
        loaded: dict[str, Any] = manager.load([spec])
    except KeyError as error:
        if spec in str(error):
            close = difflib.get_close_matches(name, known, n=5) or sorted(known)[:5]
            raise UserInputError(f"there is no task '{name}'", hint=f"near it: {', '.join(close)}") from None
        raise UserInputError(f"task '{name}' is wrong: it lacks {error}") from None
    except LqmfError:
        raise
    except (OSError, EOFError) as error:
        raise UserInputError(
            f"the data set of task '{name}' cannot be fetched: {_first_line(error)}",
            hint=f"is the hub reachable? Tasks that run offline: {', '.join(sorted(_shipped()))}",
        ) from None
    except Exception as error:  # whatever a YAML file and the code beside it do wrong
        raise UserInputError(f"task '{name}' cannot be loaded: {_first_line(error)}") from error
    return loaded


def _own_file(name: str) -> str | None:
    """The harness's file of a task that bears its name, as most do: to index its 14,000 files takes many seconds."""
    import lm_eval.tasks

    if not re.fullmatch(r"[\w.-]+", name):
        return None
    root = Path(lm_eval.tasks.__file__).parent
    said = re.compile(rf"^task: *{re.escape(name)} *$", re.MULTILINE)
    found = [path for path in root.rglob(f"{name}.yaml") if said.search(path.read_text("utf-8"))]
    return str(found[0]) if len(found) == 1 else None


def _shipped() -> list[str]:
    return [path.stem for path in SHIPPED.glob("*.yaml")]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextlib.contextmanager
def _no_long_retries(*, needed: bool) -> Iterator[None]:
    """While the hub cannot be reached, its clients use what is cached and fail at once for the rest."""
    if not needed or isinstance(hub_status("datasets/allenai/ai2_arc"), int):
        yield
        return
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _metrics(values: dict[str, Any]) -> dict[str, float]:
    """The harness's "acc,none" as "acc", and "exact_match,strict" as "exact_match.strict"; what is no number is left
    out."""
    found = {}
    for key, value in values.items():
        metric, _, how = key.partition(",")
        if how and isinstance(value, int | float) and not math.isnan(value):
            found[metric if how == "none" else f"{metric}.{how}"] = float(value)
    return found
