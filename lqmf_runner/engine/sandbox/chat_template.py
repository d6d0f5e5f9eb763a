"""Chat templates. They come with a model file, so they are untrusted code and run in a sandbox.

Jinja's immutable sandbox keeps them away from Python, and operators that could fill the memory in one step are refused
(`environment.py`). What gets past that, or loops, ends with the process it runs in (`template_process.py`). The text is
the one that transformers' `apply_chat_template` renders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError

from ...errors import InvalidRequestError, LqmfError, ModelUnusableError
from ...types import Message
from .environment import MAX_OUTPUT, RefusedError, create_environment
from .turns import Turn, shapes, tool_shapes

_ROLES = ("system", "developer", "user", "assistant", "tool")
# What a template is given by the program; the last three are what other programs take beside template variables.
_RESERVED = frozenset(
    ("messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize")
)
_CUT = "CONTINUE_FINAL_MESSAGE_TAG "  # transformers' mark of where the last message ends
_LONGEST_ERROR = 1000


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: Jinja text as found in the model.
        special_tokens: `bos_token`, `eos_token`, ... that the template may name.

    Attributes:
        knows_tools: whether the template looks at the tools it is given.

    Raises:
        ModelUnusableError: the template is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        environment = create_environment()
        self._source = source
        self._special_tokens = special_tokens
        self._globals = frozenset(environment.globals)
        try:
            self._template = environment.from_string(source)
            names = environment.parse(source).find_all(nodes.Name)
            self.knows_tools = any(name.name == "tools" for name in names)
        except (TemplateError, RecursionError, SyntaxError) as error:
            raise ModelUnusableError(
                f"the model's chat template is not valid: {_shortened(error)}",
                hint="use plain prompts, or fix the template",
            ) from error

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[dict[str, Any]] = (),
        options: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str:
        """The prompt text for a conversation.

        Args:
            tools: functions the model may call, as OpenAI describes them.
            options: further variables for the template.
            add_generation_prompt: open a turn for the answer.
            continue_final_message: end inside the last message instead, so that the answer goes on from its text.

        Raises:
            InvalidRequestError: an option would replace what the program hands in, the template knows no tools, it
                refuses the conversation, breaks, or reaches for what it may not have.
        """
        for message in messages:
            if message.role not in _ROLES:
                raise InvalidRequestError(
                    f"unknown role '{message.role[:40]}'", hint=f"roles: {', '.join(_ROLES)}"
                )
        if tools and not self.knows_tools:
            raise InvalidRequestError(
                "this model's chat template knows no tools",
                hint="leave tools out, or use a model made for them",
            )
        if continue_final_message and add_generation_prompt:
            raise InvalidRequestError(
                "continue_final_message and add_generation_prompt exclude each other",
                hint="set add_generation_prompt to false to continue the last message",
            )
        variables = {
            "documents": None,
            **self._checked(options or {}),
            **self._special_tokens,
            "add_generation_prompt": add_generation_prompt,
        }
        render = self._continued if continue_final_message else self._text
        first_error: Exception | None = None
        for offered, turns in (
            (offered, turns) for offered in tool_shapes(tools) for turns in shapes(messages)
        ):
            try:
                return render(turns, variables | {"tools": offered})
            except (LqmfError, SecurityError, MemoryError) as error:
                raise _as_ours(error) from None
            except Exception as error:
                first_error = first_error or error
        assert first_error is not None
        raise _as_ours(first_error) from None

    def _text(self, turns: list[Turn], variables: dict[str, Any]) -> str:
        parts, size = [], 0
        for part in self._template.generate(variables, messages=turns):
            parts.append(part)
            size += len(part)
            if size > MAX_OUTPUT:
                raise SecurityError("its output has no end")
        return "".join(parts)

    def _continued(self, turns: list[Turn], variables: dict[str, Any]) -> str:
        """The text up to the end of the last message; all that the template puts after it is cut off."""
        begun = turns[-1].get("content") if turns else None
        if begun is None or "content" not in self._source:
            raise InvalidRequestError(
                "continue_final_message needs a last message with a text to continue",
                hint="send the beginning of the answer as the content of a last assistant message",
            )
        text = self._text([*turns[:-1], turns[-1] | {"content": begun + _CUT}], variables)
        if begun.strip() not in text or _CUT.strip() not in text:
            raise InvalidRequestError(
                "continue_final_message does not work with this model's chat template: it leaves out the last message"
            )
        end = text.rindex(_CUT.strip())
        # A template that trims the text has taken the mark's own space along, and so the space before it too.
        return text[:end] if text[end:].startswith(_CUT) else text[:end].rstrip()

    def _checked(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in options:
            if name in _RESERVED or name in self._globals or name.endswith("_token"):
                raise InvalidRequestError(
                    f"the template option '{name[:40]}' would replace what the program itself hands to the template",
                    hint="options are for the template's own variables, such as enable_thinking",
                )
        documents = options.get("documents") or ()
        if not isinstance(documents, (list, tuple)) or not all(isinstance(one, dict) for one in documents):
            raise InvalidRequestError("the template option 'documents' must be a list of objects")
        return options


def _as_ours(error: Exception) -> LqmfError:
    match error:
        case LqmfError():
            return error
        case RefusedError():
            return InvalidRequestError(f"the model's chat template refuses this: {_shortened(error)}")
        case SecurityError():
            return InvalidRequestError(
                f"the model's chat template did something unsafe: {_shortened(error)}",
                hint="do not trust this model file",
            )
    return InvalidRequestError(
        f"the model's chat template failed: {type(error).__name__}: {_shortened(error)}",
        hint="use a plain prompt instead",
    )


def _shortened(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= _LONGEST_ERROR else text[:_LONGEST_ERROR] + "…"
