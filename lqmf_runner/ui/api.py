"""The server's REST API as a visitor of the page uses it: every call carries the visitor's own key.

So roles, limits, statistics and errors are those of any other client.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import shlex
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import gradio as gr
import httpx
import msgspec

from ..tls import trust

Event = TypeVar("Event")

_SILENCE_S = 1.0
_KEY_HEADERS = ("authorization", "x-api-key")


class Api:
    """Calls the server at a URL. `certfile` is its certificate, if it speaks HTTPS.

    Every method raises gr.Error with the server's message, which the page shows.
    """

    def __init__(self, url: str, certfile: str | None = None) -> None:
        self.url = url
        self.certfile = certfile
        self._client = httpx.AsyncClient(base_url=url, timeout=None, trust_env=False, verify=trust(certfile))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get(self, path: str, visitor: gr.Request) -> Any:
        """The JSON of a GET."""
        return await self._call("GET", path, visitor, None)

    async def post(self, path: str, visitor: gr.Request, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of a POST."""
        return await self._call("POST", path, visitor, body)

    def curl(self, method: str, path: str, visitor: gr.Request, body: Mapping[str, Any] | None = None) -> str:
        """The same request in a shell, which takes the key from LQMF_API_KEY."""
        insecure = ["-k"] if self.certfile else []  # the certificate is the server's own
        key = ' -H "Authorization: Bearer $LQMF_API_KEY"' if key_of(visitor) else ""
        data = "" if body is None else f" -d {shlex.quote(json.dumps(body))}"
        return f"{shlex.join(['curl', *insecure, '-X', method])}{key} {shlex.quote(self.url + path)}{data}"

    async def stream(
        self, path: str, visitor: gr.Request, body: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a streamed answer."""
        try:
            async with self._client.stream("POST", path, json=body, headers=_key_headers(visitor)) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise _error(answer)
                async for line in answer.aiter_lines():
                    data = line.removeprefix("data: ")
                    if data != line and data != "[DONE]":
                        event = msgspec.json.decode(data)
                        if "error" in event:
                            raise page_error(_message(event))
                        yield event
        except httpx.HTTPError as error:
            raise page_error("the server does not answer") from error

    async def _call(self, method: str, path: str, visitor: gr.Request, body: Mapping[str, Any] | None) -> Any:
        try:
            answer = await self._client.request(method, path, json=body, headers=_key_headers(visitor))
        except httpx.HTTPError as error:
            raise page_error("the server does not answer") from error
        if answer.is_error:
            raise _error(answer)
        return answer.json()


async def paced(
    events: AsyncGenerator[Event, None], every_s: float, stop: asyncio.Event | None = None
) -> AsyncGenerator[list[Event], None]:
    """The events as they come, those together that come within `every_s` seconds. Closing it closes `events`.

    None at all come once a second while nothing happens, so that Gradio can see that the visitor has left.

    Args:
        stop: ends it once it is set.
    """
    held: list[Event] = []
    shown_at = 0.0
    pending = asyncio.ensure_future(anext(events, None))
    stopped = asyncio.ensure_future((stop or asyncio.Event()).wait())
    try:
        while True:
            wait_s = max(0.0, shown_at + every_s - time.monotonic()) if held else _SILENCE_S
            await asyncio.wait({pending, stopped}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                break
            if pending.done():
                event = pending.result()
                if event is None:
                    break
                held.append(event)
                pending = asyncio.ensure_future(anext(events, None))
            elif not held:
                yield []
            if held and time.monotonic() >= shown_at + every_s:
                shown_at, ready, held = time.monotonic(), held, []
                yield ready
        if held:
            yield held
    finally:
        pending.cancel()
        stopped.cancel()
        await asyncio.gather(pending, stopped, return_exceptions=True)
        await events.aclose()


def model_path(name: str, action: str) -> str:
    """The path of something that is done with a model."""
    return f"/models/{quote(name, safe='')}/{action}"


def page_error(message: str) -> gr.Error:
    """An error that the page shows as text. Gradio would render markup in it."""
    return gr.Error(html.escape(message), duration=12, print_exception=False)


def key_of(visitor: gr.Request) -> str | None:
    """The visitor's key, however it was sent."""
    scheme, _, given = visitor.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        return base64.b64decode(given).decode().partition(":")[2]
    return given or visitor.headers.get("x-api-key")


def _key_headers(visitor: gr.Request) -> dict[str, str]:
    return {name: visitor.headers[name] for name in _KEY_HEADERS if name in visitor.headers}


def _error(answer: httpx.Response) -> gr.Error:
    try:
        return page_error(_message(answer.json()))
    except ValueError:
        return page_error(f"the server answered {answer.status_code}")


def _message(body: Mapping[str, Any]) -> str:
    """Of an error in either shape."""
    error = body.get("error")
    if isinstance(error, Mapping):
        return str(error.get("message"))
    detail, hint = body.get("detail") or error, body.get("hint")
    return f"{detail}\n{hint}" if hint else str(detail)
