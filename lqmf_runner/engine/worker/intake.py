"""The worker's socket to the front, and the thread that reads commands from it and prepares requests."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from ...errors import ContextLengthError, InvalidRequestError, LqmfError, QueueFullError
from ...types import Constraint, GenerationRequest, Message, SamplingParams
from .. import protocol
from ..options import PreparedOptions, encode_options
from ..protocol import (
    Cancel,
    Command,
    Detokenize,
    Embed,
    Event,
    Generate,
    GetStats,
    NextTokens,
    Ping,
    Pong,
    PrepareOptions,
    Reply,
    ResetPrefixCache,
    ScoreTokens,
    ScoreWindow,
    ShrinkPromptCache,
    Tokenize,
)
from ..sandbox.constraints import ConstraintCompiler
from ..sandbox.template_process import TemplateProcess
from ..thoughts import ends_in_thoughts, knows_thoughts, thought_reader
from .embedding import EmbeddingState
from .request import Generating, Request, Scoring
from .runners.base import ModelRunner
from .sampling import Sampler, check_sampling
from .sinks import NextTokenSink, RowSink, ScoreSink
from .text import AnswerText
from .window_sink import WindowScorer

if TYPE_CHECKING:
    from .runners.llama_embedding import LlamaEmbedder

Received = Request | EmbeddingState | Cancel | GetStats | ResetPrefixCache | ShrinkPromptCache
"""What the thread that runs the model has to handle."""

_GENERATING = (Generate, ScoreTokens, ScoreWindow, PrepareOptions, NextTokens)
_COMPILE_THREADS = 2
_MAX_COMPILING = 64
_LARGE = 1 << 18  # characters; a text of so many takes about a tenth of a second to tokenize


class Connection:
    """The worker's end of the socket. Sending is safe from both threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream = sock.makefile("rb", buffering=1 << 16)
        self._sock = sock
        self._lock = threading.Lock()
        self._exit_code = 0

    def send(self, events: list[Event]) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(protocol.frame(events))

    def receive(self) -> list[Command]:
        """The next commands, without malformed ones; ends the process when the front is gone."""
        (size,) = protocol.HEADER.unpack(self._read(protocol.HEADER.size))
        body = self._read(size)
        try:
            return protocol.command_decoder.decode(body)
        except msgspec.ValidationError as error:
            refusal = InvalidRequestError(f"the request is malformed: {error}")
            commands = msgspec.msgpack.decode(body)
            self.send([protocol.failure(command.get("id"), refusal) for command in commands])
            return []

    def end_hanging(self) -> NoReturn:
        """End because a step hangs. The socket first: a thread that waits for a device may hold up the rest."""
        self._exit_code = protocol.STEP_HANGS  # the thread that reads may be faster
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        os._exit(self._exit_code)

    def _read(self, size: int) -> bytes:
        # A front that goes with events unread resets the connection instead of ending it.
        with contextlib.suppress(OSError):
            data = self._stream.read(size)
            if len(data) == size:
                return data
        os._exit(self._exit_code)


class Intake:
    """Makes a `Request` of each request in its own thread.

    Another thread reads the commands from the start, so that the process also ends if the front ends during a load,
    and so that it answers a `Ping` whatever else it does. Commands are handled once `attach` has given it the model.
    """

    def __init__(self, connection: Connection) -> None:
        self.inbox: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._connection = connection
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._attached = threading.Event()
        self._template_process = TemplateProcess()
        self._compiling: set[int] = set()
        self._compiling_lock = threading.Lock()
        self._apart: set[int] = set()
        self._large_texts = ThreadPoolExecutor(1, "large-texts")
        self._compile_threads = ThreadPoolExecutor(_COMPILE_THREADS, "constraints")
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        threading.Thread(target=self._run, name="intake", daemon=True).start()

    def attach(self, runner: ModelRunner | LlamaEmbedder, n_threads: int) -> None:
        self._info = runner.info
        self._windows = WindowScorer(runner.info.n_vocab, n_threads)
        self._tokenizer = runner.tokenizer
        self._constraints = ConstraintCompiler(runner.tokenizer, runner.info.n_vocab)
        self._template: TemplateProcess | LqmfError | None = None
        self.knows_thoughts = any(map(knows_thoughts, runner.tokenizer.chat_templates.values()))
        if sources := runner.tokenizer.chat_templates:
            try:
                self._template_process.open(sources, runner.tokenizer.special_tokens)
                self._template = self._template_process
            except LqmfError as error:
                self._template = error
        if self._template is not self._template_process:
            self._template_process.close()
        self._attached.set()

    @property
    def knows_tools(self) -> bool:
        """Whether the chat template of the attached model knows tools."""
        return isinstance(self._template, TemplateProcess) and self._template.knows_tools

    def _read(self) -> None:
        while True:
            for command in self._connection.receive():
                if isinstance(command, Ping):
                    self._connection.send([Pong()])
                else:
                    self._commands.put(command)

    def _run(self) -> None:
        self._attached.wait()
        while True:
            command = self._commands.get()
            if _text_size(command) > _LARGE:
                self._handle_apart(command)
            else:
                self._handle_safely(command)

    def _handle_safely(self, command: Command) -> None:
        try:
            self._handle(command)
        except Exception as error:
            self._connection.send([protocol.failure(getattr(command, "id", None), error)])

    def _handle_apart(self, command: Any) -> None:
        """Handle it in another thread: its text takes seconds to tokenize, and later requests must not wait for it."""

        def handle() -> None:
            self._handle_safely(command)
            with self._compiling_lock:
                cancelled = command.id not in self._apart
                self._apart.discard(command.id)
            if cancelled:
                self._handle_safely(Cancel(command.id))

        with self._compiling_lock:
            self._apart.add(command.id)
        self._large_texts.submit(handle)

    def _handle(self, command: Command) -> None:
        if self._info.embeddings and isinstance(command, _GENERATING):
            raise InvalidRequestError(
                f"'{self._info.name}' is made for embeddings and generates no text",
                hint="POST /v1/embeddings, or name another model",
            )
        match command:
            case Generate(id=request_id, request=request, whole=whole):
                self._take(self._prepare(request_id, request, whole))
            case ScoreTokens(id=request_id, tokens=tokens, top=top):
                check_sampling(SamplingParams(logprobs=top))
                ids = (
                    self._tokenizer.encode(tokens, parse_special=False) if isinstance(tokens, str) else tokens
                )
                self.inbox.put(
                    self._to_score(request_id, ids, lambda: ScoreSink(ids, top, self._tokenizer.token_text))
                )
            case ScoreWindow(id=request_id, window=window):
                self.inbox.put(self._to_score(request_id, window.tokens, lambda: self._windows.sink(window)))
            case PrepareOptions(id=request_id, request=request, options=options):
                prompt, _ = self._prompt(request)
                self._check_length(len(prompt), 1)
                self._reply(request_id, PreparedOptions(prompt, encode_options(options, self._encode_plain)))
            case NextTokens(id=request_id, tokens=tokens, candidates=candidates):
                self.inbox.put(self._next_tokens(request_id, tokens, candidates))
            case Tokenize(id=request_id, text=text, special=special):
                encode = self._tokenizer.encode_prompt if special else self._encode_plain
                self._reply(request_id, encode(text))
            case Detokenize(id=request_id, tokens=tokens):
                self._check_tokens(tokens)
                self._reply(request_id, self._tokenizer.decode(tokens))
            case Embed(id=request_id, inputs=inputs):
                self.inbox.put(EmbeddingState(request_id, [self._text_tokens(text) for text in inputs]))
            case Cancel(id=request_id):
                with self._compiling_lock:
                    if request_id not in self._compiling and request_id not in self._apart:
                        self.inbox.put(command)
                    self._compiling.discard(request_id)
                    self._apart.discard(request_id)
            case GetStats() | ResetPrefixCache() | ShrinkPromptCache():
                self.inbox.put(command)

    def _take(self, state: Generating) -> None:
        """Pass a request on. If its constraint is not compiled yet, only this request waits for that."""
        constraint = state.sampling.constraint
        if constraint is None:
            self.inbox.put(state)
        elif matcher := self._constraints.cached(constraint):
            state.sampler.constrain(matcher)
            self.inbox.put(state)
        else:
            with self._compiling_lock:
                if len(self._compiling) >= _MAX_COMPILING:
                    raise QueueFullError(
                        f"{len(self._compiling)} requests wait for their constraints to be compiled",
                        hint="try again in a few seconds",
                    )
                self._compiling.add(state.id)
            self._compile_threads.submit(self._compile, state, constraint)

    def _compile(self, state: Generating, constraint: Constraint) -> None:
        try:
            if state.id in self._compiling:  # else cancelled while it waited
                state.sampler.constrain(self._constraints.compile(constraint))
        except Exception as error:
            self._connection.send([protocol.failure(state.id, error)])
            with self._compiling_lock:
                self._compiling.discard(state.id)
            return
        with self._compiling_lock:
            if state.id in self._compiling:
                self._compiling.remove(state.id)
                self.inbox.put(state)

    def _reply(self, request_id: int, value: Any) -> None:
        self._connection.send([Reply(request_id, value)])

    def _encode_plain(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, parse_special=False)

    def _to_score(self, request_id: int, tokens: list[int], make_sink: Callable[[], RowSink]) -> Scoring:
        self._check_tokens(tokens)
        self._check_length(len(tokens), 0)
        return Scoring(request_id, tokens, make_sink())

    def _next_tokens(self, request_id: int, tokens: list[int], candidates: list[int]) -> Scoring:
        self._check_tokens(tokens)
        self._check_tokens(candidates)
        self._check_length(len(tokens), 0)
        return Scoring(request_id, tokens, NextTokenSink(len(tokens), candidates))

    def _prepare(self, request_id: int, request: GenerationRequest, whole: bool) -> Generating:
        info, params = self._info, request.sampling
        check_sampling(params)
        tokens, opened = self._prompt(request)
        self._check_length(len(tokens), 1)
        limit = info.n_ctx - len(tokens)
        max_tokens = limit if params.max_tokens is None else min(params.max_tokens, limit)
        sampler = Sampler(params, tokens, info.n_vocab)
        answer = AnswerText(self._tokenizer.detokenizer(), params.stop)
        thoughts = thought_reader(request, thinks=self.knows_thoughts, opened=opened)
        return Generating(request_id, tokens, max_tokens, params, sampler, answer, whole, thoughts)

    def _prompt(self, request: GenerationRequest) -> tuple[list[int], bool]:
        """The tokens of the prompt, and whether the chat template has opened thoughts at its end."""
        match request.messages, request.prompt, request.prompt_tokens:
            case tuple(messages), None, None:
                text = self._chat_text(request, messages)
                return self._tokenizer.encode_chat(text), ends_in_thoughts(text)
            case None, str(text), None:
                _check_plain(request)
                return self._tokenizer.encode_prompt(text), False
            case None, None, tuple(tokens):
                _check_plain(request)
                self._check_tokens(tokens)
                return list(tokens), False
            case _:
                raise InvalidRequestError("give exactly one of messages, prompt and prompt tokens")

    def _text_tokens(self, text: str | list[int]) -> list[int]:
        """The tokens of a text to embed, with the special tokens that the model expects around it."""
        tokens = self._tokenizer.encode_whole(text) if isinstance(text, str) else text
        self._check_tokens(tokens)
        if not tokens:
            raise InvalidRequestError("there is an empty text to embed", hint="send at least one token")
        if len(tokens) > self._info.n_ctx:
            raise ContextLengthError(
                f"a text of {len(tokens)} tokens exceeds the available context size of {self._info.n_ctx}",
                hint="embed it in pieces",
            )
        return tokens

    def _chat_text(self, request: GenerationRequest, messages: Sequence[Message]) -> str:
        if isinstance(self._template, LqmfError):
            raise self._template
        if self._template is None:
            raise InvalidRequestError(
                "this model has no chat template", hint="send a plain prompt instead of messages"
            )
        return self._template.render(
            messages,
            tools=request.tools,
            options=_template_options(request),
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
        )

    def _check_tokens(self, tokens: Any) -> None:
        n_vocab = self._info.n_vocab
        if any(not 0 <= token < n_vocab for token in tokens):
            raise InvalidRequestError(
                "a token id is outside the vocabulary", hint=f"ids go from 0 to {n_vocab - 1}"
            )

    def _check_length(self, n_prompt: int, n_generated: int) -> None:
        n_ctx = self._info.n_ctx
        if n_prompt == 0:
            raise InvalidRequestError("the prompt is empty", hint="send at least one token")
        if n_prompt + n_generated > n_ctx:
            raise ContextLengthError(
                # In words by which clients such as litellm know this error.
                f"the prompt of {n_prompt} tokens exceeds the available context size of {n_ctx}",
                hint=f"shorten the prompt, or load the model with backend.n_ctx={n_prompt + 256}",
            )


def _template_options(request: GenerationRequest) -> dict[str, Any]:
    """The variables of the chat template: no effort is no thinking, by the switch that most templates have."""
    options = request.template_options
    return {"enable_thinking": False, **options} if options.get("reasoning_effort") == "none" else options


def _check_plain(request: GenerationRequest) -> None:
    """Refuse what only a chat template reads."""
    if (
        request.tools
        or request.template_options
        or request.continue_final_message
        or not request.add_generation_prompt
    ):
        raise InvalidRequestError("tools and template options go with messages, not with a plain prompt")


def _text_size(command: Command) -> int:
    """Characters that have to be tokenized before a request can go on."""
    match command:
        case Generate(request=request):
            return len(request.prompt or "") + sum(
                len(message.content or "") for message in request.messages or ()
            )
        case ScoreTokens(tokens=str(text)) | Tokenize(text=text):
            return len(text)
        case _:
            return 0
