"""Bodies that are sent compressed (Content-Encoding)."""

from __future__ import annotations

import zlib

from ...errors import InvalidRequestError
from ..asgi import Message, Receive, Scope, header
from ..errors import HttpError

_GZIP = ("gzip", "x-gzip")
_WINDOW = 16 + zlib.MAX_WBITS  # zlib's code for gzip


def encoding_of(scope: Scope) -> str:
    """The content coding of the request's body; empty if there is none.

    Raises:
        HttpError: 415, one that the server does not read.
    """
    given = (header(scope, b"content-encoding") or b"").decode("latin-1").strip().lower()
    if given in ("", "identity") or scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return ""
    if given not in _GZIP:
        raise HttpError(
            415,
            f"the server does not read a body with Content-Encoding: {given}",
            hint="send it as it is, or with gzip",
            headers={"accept-encoding": "gzip"},
        )
    return "gzip"


def inflated(receive: Receive, *, most: int) -> Receive:
    """The body without its gzip. One byte more than `most` is the most that is ever unpacked of it.

    The receiver raises InvalidRequestError if the body is not gzip, or not all of it.
    """
    unpacker = zlib.decompressobj(_WINDOW)
    arrived, given = False, 0

    async def receive_inflated() -> Message:
        nonlocal unpacker, arrived, given
        message = await receive()
        if message["type"] != "http.request":
            return message
        data, out = message.get("body", b""), b""
        arrived = arrived or bool(data)
        try:
            while data and given <= most:
                if unpacker.eof:  # a body may consist of several gzip members
                    unpacker = zlib.decompressobj(_WINDOW)
                part = unpacker.decompress(data, most + 1 - given)
                data = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                given += len(part)
                out += part
        except zlib.error:
            raise InvalidRequestError("the body is labelled Content-Encoding: gzip and is not gzip") from None
        if arrived and given <= most and not message.get("more_body", False) and not unpacker.eof:
            raise InvalidRequestError("the body is labelled Content-Encoding: gzip and breaks off")
        return {**message, "body": out}

    return receive_inflated
