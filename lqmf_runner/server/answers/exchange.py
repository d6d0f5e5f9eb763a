"""Answer a chat completion or a completion, whole or streamed."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.types import Receive, Send

from ...openai_api.exchange import Exchange
from ..services import services_of
from ..watch.observe import ServedRequest
from .generation import Answer, generation, send_events, send_json


def answer_exchange(route: str, exchange: Exchange, request: Request[Any, Any, Any]) -> Answer[Any]:
    """The response that generates the exchange's answer while it is sent."""
    served = ServedRequest(route, exchange.model, exchange.stream, exchange.n_choices, request.scope)
    services = services_of(request)

    async def answer(receive: Receive, send: Send) -> None:
        async with generation(
            services.pool, services.observer, served, receive, exchange.keep_alive_s
        ) as current:
            await exchange.prepare(current.engine, current.model.token_texts)
            requests, n = exchange.requests, exchange.n
            if exchange.stream:
                await send_events(current, requests, send, exchange.events(), per_prompt=n)
            else:
                completions = await current.complete(requests, per_prompt=n)
                await send_json(current, send, exchange.answer(completions, current.usage))

    return Answer(answer)
