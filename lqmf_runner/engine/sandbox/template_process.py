"""Renders the model's chat templates in a process of its own: `python -m lqmf_runner.engine.sandbox.template_process`.

A template is untrusted code. Jinja's sandbox keeps it away from Python, but some of what it may do (a huge join, JSON
of a list that holds itself many times over) is one call of C code that no watchdog in the same process can end, and
that would stop the model meanwhile. Here it costs only this process, whose memory and time have hard limits.
"""

from __future__ import annotations

import os
import resource
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import msgspec

from ...errors import EngineError, InvalidRequestError, LqmfError, ModelUnusableError
from ...types import Message
from ..protocol import HEADER, Failed, error_from, failure, frame
from .template_set import ChatTemplateSet

TIME_LIMIT_S = 2.0  # for a conversation
_START_S = 60.0  # imports, on a machine that is busy
_CPU_S = 4  # for one conversation; ends what is left behind by a worker that is gone
_ADDRESS_SPACE = 1 << 30


class Templates(msgspec.Struct, frozen=True, tag=True):
    """The model's templates by name, to render with from now on."""

    sources: dict[str, str]
    special_tokens: dict[str, str]


class Render(msgspec.Struct, frozen=True, tag=True):
    """A conversation to render."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    options: dict[str, Any]
    add_generation_prompt: bool
    continue_final_message: bool


class Compiled(msgspec.Struct, frozen=True, tag=True):
    """One of the templates at least is valid; whether that for requests with tools knows them."""

    knows_tools: bool


class Rendered(msgspec.Struct, frozen=True, tag=True):
    """The prompt."""

    text: str


Job = Templates | Render
Answer = Compiled | Rendered | Failed
_jobs = msgspec.msgpack.Decoder(list[Job])
_answers = msgspec.msgpack.Decoder(list[Answer])


class TemplateProcess:
    """The worker's end. It starts the process at once, so that this costs nothing while the model loads."""

    def __init__(self) -> None:
        self._templates: Templates | None = None
        self._one_at_a_time = threading.Lock()
        self.knows_tools = False
        self._start()

    @property
    def pid(self) -> int:
        """Process id of the one that renders now."""
        return self._process.pid

    def open(self, sources: Mapping[str, str], special_tokens: dict[str, str]) -> None:
        """Take a model's templates, at least one, by name.

        Raises:
            ModelUnusableError: none is valid, or compiling them took too much.
        """
        self._templates = Templates(dict(sources), special_tokens)
        try:
            self._send(self._templates)
            answer = self._receive(_START_S)
        except (TimeoutError, EOFError, BrokenPipeError):
            raise ModelUnusableError(
                "the model's chat template took too much time or memory to be compiled",
                hint="use plain prompts, or fix the template",
            ) from None
        assert isinstance(answer, Compiled)
        self.knows_tools = answer.knows_tools

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[dict[str, Any]],
        options: Mapping[str, Any],
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str:
        """The prompt for a conversation; see `ChatTemplate.render`. May be called from several threads.

        Raises:
            InvalidRequestError: the template does not take it, or needs more time or memory than it may have.
        """
        job = Render(
            tuple(messages), tuple(tools), dict(options), add_generation_prompt, continue_final_message
        )
        with self._one_at_a_time:
            return self._render(job)

    def _render(self, job: Render) -> str:
        try:
            self._send(job)
            answer = self._receive(TIME_LIMIT_S)
        except (TimeoutError, EOFError, BrokenPipeError):
            self.close()
            self._start()
            assert self._templates is not None
            self.open(self._templates.sources, self._templates.special_tokens)
            raise InvalidRequestError(
                f"the model's chat template took more than {TIME_LIMIT_S:g} s, or too much memory",
                hint="use a plain prompt instead",
            ) from None
        assert isinstance(answer, Rendered)
        return answer.text

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def _send(self, job: Job) -> None:
        assert self._process.stdin is not None
        data = memoryview(frame([job]))
        while data:
            data = data[self._process.stdin.write(data) :]

    def _receive(self, seconds: float) -> Answer:
        deadline = time.monotonic() + seconds
        (size,) = HEADER.unpack(self._read(HEADER.size, deadline))
        (answer,) = _answers.decode(self._read(size, deadline))
        if isinstance(answer, Failed):
            raise error_from(answer)
        return answer

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        pipe, data = self._process.stdout.fileno(), bytearray()
        while len(data) < size:
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(pipe, min(size - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


def main() -> None:
    """Answer jobs until the worker is gone."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    _limit(resource.RLIMIT_AS, _ADDRESS_SPACE)
    _limit(resource.RLIMIT_CORE, 0)
    templates: ChatTemplateSet | None = None
    while job := _next_job(sys.stdin.buffer):
        _limit_time()
        try:
            if isinstance(job, Templates):
                templates = ChatTemplateSet(job.sources, job.special_tokens)
                data = frame([Compiled(templates.knows_tools)])
            else:
                assert templates is not None
                data = frame([Rendered(_text(templates, job))])
        except MemoryError:
            os._exit(1)  # as one that the kernel ends: the worker knows what that means
        except Exception as error:
            known = error if isinstance(error, LqmfError) else EngineError(f"the chat template: {error!r}")
            data = frame([failure(None, known)])
        channel.write(data)


def _text(templates: ChatTemplateSet, job: Render) -> str:
    return templates.render(
        job.messages,
        tools=job.tools,
        options=job.options,
        add_generation_prompt=job.add_generation_prompt,
        continue_final_message=job.continue_final_message,
    )


def _next_job(stream: BinaryIO) -> Job | None:
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    (job,) = _jobs.decode(stream.read(size))
    return job


def _limit_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + _CPU_S)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main()
