"""The message of a server that is ready: in the terminal, and to the process that started it in the background."""

from __future__ import annotations

import contextlib
import json
import os

READY_VARIABLE = "LQMF_READY_FD"
"""Environment variable with the pipe of the process that waits for the announcement."""


def announce(url: str, models: list[str], *, with_key: bool, with_page: bool, install_page: str = "") -> None:
    """Print how the server is reached, and pass it on to the process that waits for it.

    Args:
        install_page: the command that installs what the page needs, where it is wanted and cannot be there.
    """
    page = f"page: {url}/ui · " if with_page else ""
    if install_page:
        page = f"no page without the package gradio: {install_page} · "
    text = _announcement(url, models, page, with_key=with_key)
    print(text, flush=True)
    descriptor = os.environ.pop(READY_VARIABLE, None)
    if descriptor is not None:
        with contextlib.suppress(OSError, ValueError), open(int(descriptor), "w", encoding="utf-8") as pipe:
            pipe.write(text)


def _announcement(url: str, models: list[str], page: str, *, with_key: bool) -> str:
    message = {"role": "user", "content": "Hello"}
    body = json.dumps({"model": models[0] if models else "<name>", "messages": [message], "max_tokens": 64})
    key = " -H 'Authorization: Bearer <key>'" if with_key else ""
    loaded = ", ".join(models) or "nothing yet, loaded on request"
    return (
        f"lqmf-runner serves {loaded} on {url} · try: "
        f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}' · {page}more: {url}/docs"
    )
