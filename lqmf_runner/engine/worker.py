"""The worker process: one loaded model, a scheduler, and a socket to the front.

The main thread runs the model. The intake thread reads commands and prepares requests (template, tokens) so that
this costs the running ones nothing; when the socket closes, the front is gone and the process ends at once.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

import msgspec

from ..errors import ContextLengthError, InvalidRequestError, LqmfError
from ..types import GenerationRequest, SamplingParams
from . import protocol
from .chat_template import ChatTemplate
from .protocol import (
    Cancel,
    Command,
    Detokenize,
    Event,
    Generate,
    GetStats,
    Load,
    Loaded,
    Loading,
    Reply,
    ResetPrefixCache,
    ScoreTokens,
    Tokenize,
)
from .runners import runner_class
from .runners.base import ModelRunner
from .sampling import Sampler, check_sampling
from .scheduler import RequestState, Scheduler, SchedulerLimits
from .text import AnswerText


class Connection:
    """The worker's end of the socket. Sending is safe from both threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream = sock.makefile("rb", buffering=1 << 16)
        self._sock = sock
        self._lock = threading.Lock()

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

    def _read(self, size: int) -> bytes:
        # A front that goes with events unread resets the connection instead of ending it.
        with contextlib.suppress(OSError):
            data = self._stream.read(size)
            if len(data) == size:
                return data
        os._exit(0)


class Intake:
    """Reads commands and turns requests into `RequestState`s, in a thread of its own.

    It reads from the start, so that a load whose front is gone ends too; commands are handled once `attach` has
    given it the model.
    """

    def __init__(self, connection: Connection) -> None:
        self.inbox: queue.SimpleQueue[RequestState | Cancel | GetStats | ResetPrefixCache] = (
            queue.SimpleQueue()
        )
        self._connection = connection
        self._attached = threading.Event()
        threading.Thread(target=self._run, name="intake", daemon=True).start()

    def attach(self, runner: ModelRunner) -> None:
        self._runner = runner
        self._tokenizer = runner.tokenizer
        self._template: ChatTemplate | LqmfError | None = None
        if source := runner.tokenizer.chat_template:
            try:
                self._template = ChatTemplate(source, runner.tokenizer.special_tokens)
            except LqmfError as error:
                self._template = error
        self._attached.set()

    def _run(self) -> None:
        while True:
            commands = self._connection.receive()
            self._attached.wait()
            for command in commands:
                try:
                    self._handle(command)
                except Exception as error:
                    if not isinstance(error, LqmfError):
                        traceback.print_exc()
                    self._connection.send([protocol.failure(getattr(command, "id", None), error)])

    def _handle(self, command: Command) -> None:
        match command:
            case Generate(id=request_id, request=request):
                self.inbox.put(self._prepare(request_id, request))
            case ScoreTokens(id=request_id, tokens=tokens):
                ids = (
                    self._tokenizer.encode(tokens, parse_special=False) if isinstance(tokens, str) else tokens
                )
                self._check_tokens(ids)
                self._check_length(len(ids), 0)
                self.inbox.put(RequestState(request_id, ids, len(ids), 0, SamplingParams()))
            case Tokenize(id=request_id, text=text, special=special):
                encode = self._tokenizer.encode_prompt if special else self._encode_plain
                self._reply(request_id, encode(text))
            case Detokenize(id=request_id, tokens=tokens):
                self._check_tokens(tokens)
                self._reply(request_id, self._tokenizer.decode(tokens))
            case Cancel() | GetStats() | ResetPrefixCache():
                self.inbox.put(command)

    def _reply(self, request_id: int, value: Any) -> None:
        self._connection.send([Reply(request_id, value)])

    def _encode_plain(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, parse_special=False)

    def _prepare(self, request_id: int, request: GenerationRequest) -> RequestState:
        info, params = self._runner.info, request.sampling
        check_sampling(params)
        tokens = self._prompt_tokens(request)
        self._check_length(len(tokens), 1)
        limit = info.n_ctx - len(tokens)
        max_tokens = limit if params.max_tokens is None else min(params.max_tokens, limit)
        sampler = Sampler(params, tokens, info.n_vocab)
        answer = AnswerText(self._tokenizer.detokenizer(), params.stop)
        return RequestState(request_id, tokens, len(tokens), max_tokens, params, sampler, answer)

    def _prompt_tokens(self, request: GenerationRequest) -> list[int]:
        given = [x for x in (request.messages, request.prompt, request.prompt_tokens) if x is not None]
        if len(given) != 1:
            raise InvalidRequestError("give exactly one of messages, prompt and prompt tokens")
        if request.prompt_tokens is not None:
            self._check_tokens(request.prompt_tokens)
            return list(request.prompt_tokens)
        if request.prompt is not None:
            return self._tokenizer.encode_prompt(request.prompt)
        assert request.messages is not None
        if isinstance(self._template, LqmfError):
            raise self._template
        if self._template is None:
            raise InvalidRequestError(
                "this model has no chat template", hint="send a plain prompt instead of messages"
            )
        return self._tokenizer.encode_prompt(self._template.render(request.messages))

    def _check_tokens(self, tokens: Any) -> None:
        n_vocab = self._runner.info.n_vocab
        if any(not 0 <= token < n_vocab for token in tokens):
            raise InvalidRequestError(
                "a token id is outside the vocabulary", hint=f"ids go from 0 to {n_vocab - 1}"
            )

    def _check_length(self, n_prompt: int, n_generated: int) -> None:
        n_ctx = self._runner.info.n_ctx
        if n_prompt == 0:
            raise InvalidRequestError("the prompt is empty", hint="send at least one token")
        if n_prompt + n_generated > n_ctx:
            raise ContextLengthError(
                f"the prompt has {n_prompt} tokens, the context holds {n_ctx}",
                hint=f"shorten the prompt, or load the model with backend.n_ctx={n_prompt + 256}",
            )


def run_requests(scheduler: Scheduler, intake: Intake, connection: Connection) -> NoReturn:
    """Run the model while there are requests, and wait for some while there are none."""
    while True:
        while not (scheduler.has_work and intake.inbox.empty()):
            match intake.inbox.get():
                case RequestState() as request:
                    try:
                        scheduler.add(request)
                    except LqmfError as error:
                        connection.send([protocol.failure(request.id, error)])
                case Cancel(id=request_id):
                    scheduler.cancel(request_id)
                case GetStats(id=request_id):
                    connection.send([Reply(request_id, scheduler.stats())])
                case ResetPrefixCache(id=request_id):
                    scheduler.reset_prefix_cache()
                    connection.send([Reply(request_id, True)])
        scheduler.step()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the front decides.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")  # If memory runs out, the model goes, not the server.
    connection = Connection(socket.socket(fileno=int(sys.argv[1])))
    (load,) = connection.receive()
    assert isinstance(load, Load)
    spec = load.spec
    intake = Intake(connection)
    began = time.perf_counter()
    try:
        runner = runner_class(spec.format).load(spec, lambda share: connection.send([Loading(share)]))
    except Exception as error:
        if not isinstance(error, LqmfError):
            traceback.print_exc()
        connection.send([protocol.failure(None, error)])
        sys.exit(1)
    limits = {
        name: spec.options[name] for name in SchedulerLimits.__dataclass_fields__ if name in spec.options
    }
    scheduler = Scheduler(runner, SchedulerLimits(**limits), connection.send)
    intake.attach(runner)
    connection.send([Loaded(msgspec.structs.replace(runner.info, load_time_s=time.perf_counter() - began))])
    run_requests(scheduler, intake, connection)


if __name__ == "__main__":
    main()
