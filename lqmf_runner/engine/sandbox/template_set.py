"""The chat templates of one model, and which of them a request is rendered with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import InvalidRequestError, ModelUnusableError
from .chat_template import ChatTemplate

DEFAULT, WITH_TOOLS = "default", "tool_use"


class ChatTemplateSet:
    """A model's templates by name. A request with tools takes "tool_use" where there is one, else "default".

    That is the choice of transformers. A model whose only template has another name uses that one.

    Args:
        sources: name → Jinja text; at least one.
        special_tokens: as for `ChatTemplate`.

    Attributes:
        knows_tools: whether the template that a request with tools takes looks at them.

    Raises:
        ModelUnusableError: none of the templates is valid Jinja.
    """

    def __init__(self, sources: Mapping[str, str], special_tokens: dict[str, str]) -> None:
        self._compiled: dict[str, ChatTemplate | ModelUnusableError] = {}
        for name, source in sources.items():
            try:
                self._compiled[name] = ChatTemplate(source, special_tokens)
            except ModelUnusableError as error:
                self._compiled[name] = error
        if not any(isinstance(template, ChatTemplate) for template in self._compiled.values()):
            raise next(error for error in self._compiled.values() if isinstance(error, ModelUnusableError))
        chosen = self._compiled.get(self._name(with_tools=True) or "")
        self.knows_tools = isinstance(chosen, ChatTemplate) and chosen.knows_tools

    def render(self, *args: Any, tools: Any = (), **kwargs: Any) -> str:
        """See `ChatTemplate.render`.

        Raises:
            InvalidRequestError: also where the model has several templates and none is the default.
            ModelUnusableError: the template that this request takes is not valid Jinja.
        """
        name = self._name(with_tools=bool(tools))
        if name is None:
            names = ", ".join(f"'{name[:40]}'" for name in sorted(self._compiled)[:20])
            raise InvalidRequestError(
                f"this model has several chat templates and none is the default: {names}",
                hint="name one of them 'default' in the model's tokenizer_config.json, or use a plain prompt",
            )
        chosen = self._compiled[name]
        if isinstance(chosen, ModelUnusableError):
            raise chosen
        return chosen.render(*args, tools=tools, **kwargs)

    def _name(self, *, with_tools: bool) -> str | None:
        if with_tools and WITH_TOOLS in self._compiled:
            return WITH_TOOLS
        if DEFAULT in self._compiled:
            return DEFAULT
        return next(iter(self._compiled)) if len(self._compiled) == 1 else None
