"""The bodies of `/v1/systemone` and `/v1/decisions` as they arrive; `decisions.api` defines their meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Content = str | dict[str, Any] | list[Any]
ModelName = Annotated[str, Meta(description="A name that GET /v1/models lists.")]
KeepAlive = Annotated[
    float | str | None, Meta(description="Unload the model when it was idle for so long: seconds, or '5m'.")
]
TemplateOptions = Annotated[dict[str, Any] | None, Meta(description="Variables of the chat template.")]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question. An unknown field is an error, because it would be a silent mistake."""


class SystemOneChoice(_Strict, frozen=True, tag="choice"):
    """One of the options that `criteria` names, each with a description or null."""

    criteria: dict[str, Content | None]
    instructions: Content | None = None


class SystemOneScore(_Strict, frozen=True, tag="score"):
    """A level of `criteria`, from the lowest to the highest."""

    criteria: list[Content]
    instructions: Content | None = None


class SystemOneNoulCriteria(_Strict, frozen=True):
    """When the answer is yes, and when it is no."""

    true: Content | None = None
    false: Content | None = None


class SystemOneNoul(_Strict, frozen=True, tag="noul"):
    """Yes or no."""

    criteria: SystemOneNoulCriteria | None = None
    instructions: Content | None = None


class DecisionBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the bodies share; the first two are the server's.

    `openai_api/bodies/fields.py` decides about all other fields.
    """

    model: ModelName = ""
    keep_alive: KeepAlive = None
    chat_template_kwargs: TemplateOptions = None


class SystemOneRequest(DecisionBody, frozen=True):
    """The body of POST /v1/systemone."""

    state: Content
    questions: dict[str, SystemOneChoice | SystemOneScore | SystemOneNoul]
    instructions: Content | None = None


class OpenAIDecisionValue(_Strict, frozen=True):
    """An option."""

    value: str | bool
    description: str = ""


class OpenAIDecisionLevel(_Strict, frozen=True):
    """A level of a scale."""

    label: str
    description: str = ""


class OpenAIPredicate(_Strict, frozen=True, tag="predicate"):
    """Whether a statement is true."""

    instructions: str
    name: str | None = None


class OpenAIDecisionChoice(_Strict, frozen=True, tag="choice"):
    """One of the choices."""

    instructions: str
    choices: list[OpenAIDecisionValue]
    name: str | None = None


class OpenAIDecisionScore(_Strict, frozen=True, tag="score"):
    """A level, from the lowest to the highest."""

    instructions: str
    levels: list[OpenAIDecisionLevel]
    name: str | None = None


class OpenAIDecisionText(msgspec.Struct, frozen=True, tag="input_text"):
    """A part of a message."""

    text: str


class OpenAIDecisionMessage(msgspec.Struct, frozen=True):
    """A message; several are read as one text."""

    content: str | list[OpenAIDecisionText]
    role: Literal["user"] = "user"


class OpenAIDecisionsRequest(DecisionBody, frozen=True):
    """The body of POST /v1/decisions as OpenAI has it."""

    input: str | list[OpenAIDecisionMessage]
    questions: list[OpenAIPredicate | OpenAIDecisionChoice | OpenAIDecisionScore]


class SGLangOption(_Strict, frozen=True):
    """An option."""

    name: str
    description: Content | None = None


class SGLangChoice(_Strict, frozen=True, tag="choice"):
    """One of the options."""

    id: str
    question: Content
    options: list[SGLangOption]


class SGLangScore(_Strict, frozen=True, tag="score"):
    """A level, from the lowest to the highest."""

    id: str
    question: Content
    levels: list[Content]


class SGLangYesNo(_Strict, frozen=True, tag="yes_no"):
    """Yes or no, with what each means."""

    id: str
    question: Content
    yes: Content | None = None
    no: Content | None = None


class SGLangDecisionsRequest(DecisionBody, frozen=True):
    """The body of POST /v1/decisions as SGLang has it."""

    input: Content
    questions: list[SGLangChoice | SGLangScore | SGLangYesNo]
