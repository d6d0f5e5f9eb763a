"""Decisions as JSON: what `POST /v1/systemone` and `POST /v1/decisions` take and answer.

**/v1/systemone**, as llama-server, vLLM, SGLang and `transformers serve` have it (TypeSafe's System One):

    {"model": "m", "state": text or JSON, "instructions": "optional, before every question",
     "chat_template_kwargs": {...},
     "questions": {
       "team":   {"type": "choice", "instructions": "Which team?", "criteria": {"billing": "payments", "sales": null}},
       "urgent": {"type": "noul", "instructions": "Today?", "criteria": null or {"true": "...", "false": "..."}},
       "tone":   {"type": "score", "instructions": "How upset?", "criteria": ["calm", "annoyed", "furious"]}}}

    {"object": "structured_decision", "model": "m",
     "answers": {
       "team":   {"type": "choice", "choice": "billing", "probabilities": {"billing": 0.9, "sales": 0.1},
                  "confidence": 0.9},
       "urgent": {"type": "noul", "noul": 0.2, "probabilities": {"yes": 0.2, "no": 0.8}, "confidence": 0.8},
       "tone":   {"type": "score", "score": 0.4, "legend": {"0": "calm", "1": "annoyed", "2": "furious"},
                  "probabilities": {"0": 0.7, "1": 0.2, "2": 0.1}, "confidence": 0.7}},
     "usage": {"input_tokens": 142, "output_tokens": 0},
     "diagnostics": {"team": {"label_mass": 0.93}, ...}}

**/v1/decisions** comes in two shapes, distinguished by their questions and answered in the same shape. OpenAI's:

    {"model": "m", "input": text or [{"role": "user", "content": text or [{"type": "input_text", "text": "..."}]}],
     "questions": [
       {"type": "predicate", "name": "optional", "instructions": "The customer needs an answer today."},
       {"type": "choice", "instructions": "...", "choices": [{"value": text or bool, "description": "optional"}]},
       {"type": "score", "instructions": "...", "levels": [{"label": "calm", "description": "optional"}]}]}

    {"model": "m", "answers": [
       {"type": "predicate", "name": null, "probability": 0.2},
       {"type": "choice", "name": null, "choice": "a", "confidence": 0.9,
        "probabilities": [{"value": "a", "probability": 0.9}]},
       {"type": "score", "name": null, "score": 0.4, "confidence": 0.7,
        "probabilities": [{"value": 0, "label": "calm", "probability": 0.7}]}],
     "usage": {"input_tokens": 142, "input_tokens_details": {"cached_tokens": 90, "cache_write_tokens": 0},
               "output_tokens": 0, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 142}}

SGLang's:

    {"model": "optional", "input": text or JSON, "chat_template_kwargs": {...},
     "questions": [
       {"id": "team", "type": "choice", "question": "...", "options": [{"name": "a", "description": "optional"}]},
       {"id": "tone", "type": "score", "question": "...", "levels": ["calm", "annoyed"]},
       {"id": "urgent", "type": "yes_no", "question": "...", "yes": "optional", "no": "optional"}]}

    {"object": "decisions", "model": "m", "answers": {
       "team": {"type": "choice", "choice": "a", "probabilities": {"a": 0.9, "b": 0.1}, "label_mass": 0.9},
       "tone": {"type": "score", "score": 0.3, "probabilities": {"0": 0.7, "1": 0.3}, "label_mass": 0.9},
       "urgent": {"type": "yes_no", "probabilities": {"yes": 0.2, "no": 0.8}, "label_mass": 0.9}},
     "usage": {"prompt_tokens": 142, "completion_tokens": 0}}

`confidence` is the probability of the most likely option. Descriptions, instructions, levels and questions may be
JSON, which is put as compact text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from ..errors import InvalidRequestError
from ..openai_api.bodies.fields import refuse_unknown
from .decide import Decision, DecisionAnswer, Kind, Option, Question, check_questions
from .shapes import (
    Content,
    OpenAIDecisionChoice,
    OpenAIDecisionScore,
    OpenAIDecisionsRequest,
    SGLangChoice,
    SGLangDecisionsRequest,
    SGLangScore,
    SGLangYesNo,
    SystemOneChoice,
    SystemOneNoul,
    SystemOneNoulCriteria,
    SystemOneRequest,
    SystemOneScore,
)

T = TypeVar("T", bound=msgspec.Struct)


class DecisionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to decide, and in which shape to answer. The first four are the arguments of `decisions.decide.decide`."""

    state: str
    questions: tuple[Question, ...]
    instructions: str = ""
    template_options: dict[str, Any] = {}
    shape: Literal["systemone", "openai", "sglang"] = "systemone"


def parse_systemone(body: Mapping[str, Any]) -> DecisionRequest:
    """The body of `POST /v1/systemone`.

    Raises:
        InvalidRequestError: says which field is wrong.
    """
    given = _convert(body, SystemOneRequest)
    questions = []
    for name, question in given.questions.items():
        match question:
            case SystemOneChoice(criteria=criteria):
                kind: Kind = "choice"
                options = [Option(option, _text(about)) for option, about in criteria.items()]
            case SystemOneScore(criteria=levels):
                kind, options = "score", [Option(_text(level)) for level in levels]
            case SystemOneNoul(criteria=criteria):
                kind, about = "yes_no", criteria or SystemOneNoulCriteria()
                options = [Option("yes", _text(about.true)), Option("no", _text(about.false))]
        questions.append(_question(name, kind, question.instructions, options))
    return _request(given.state, questions, given, "systemone", _text(given.instructions))


def parse_decisions(body: Mapping[str, Any]) -> DecisionRequest:
    """The body of `POST /v1/decisions`, in OpenAI's shape or SGLang's.

    Raises:
        InvalidRequestError: says which field is wrong.
    """
    questions = body.get("questions")
    first = questions[0] if isinstance(questions, list) and questions else None
    if isinstance(first, Mapping) and ("question" in first or "id" in first):
        return _parse_sglang(_convert(body, SGLangDecisionsRequest))
    return _parse_openai(_convert(body, OpenAIDecisionsRequest))


def _parse_openai(given: OpenAIDecisionsRequest) -> DecisionRequest:
    questions = []
    for question in given.questions:
        match question:
            case OpenAIDecisionChoice(choices=choices):
                kind: Kind = "choice"
                options = [Option(_text(c.value), c.description, c.value) for c in choices]
            case OpenAIDecisionScore(levels=levels):
                kind, options = "score", [Option(level.label, level.description) for level in levels]
            case _:
                kind, options = "yes_no", [Option("yes"), Option("no")]
        questions.append(_question(question.name or "", kind, question.instructions, options))
    state = given.input
    if not isinstance(state, str):
        contents = (message.content for message in state)
        state = "\n\n".join(c if isinstance(c, str) else "\n".join(part.text for part in c) for c in contents)
    return _request(state, questions, given, "openai")


def _parse_sglang(given: SGLangDecisionsRequest) -> DecisionRequest:
    questions = []
    for question in given.questions:
        match question:
            case SGLangChoice(options=offered):
                kind: Kind = "choice"
                options = [Option(option.name, _text(option.description)) for option in offered]
            case SGLangScore(levels=levels):
                kind, options = "score", [Option(_text(level)) for level in levels]
            case SGLangYesNo(yes=yes, no=no):
                kind, options = "yes_no", [Option("yes", _text(yes)), Option("no", _text(no))]
        questions.append(_question(question.id, kind, question.question, options))
    if len({question.name for question in questions}) < len(questions):
        raise InvalidRequestError("two questions have the same id")
    return _request(given.input, questions, given, "sglang")


def render_systemone(decision: Decision, *, model: str) -> dict[str, Any]:
    """The answer of `POST /v1/systemone`; a server may add `id` and `created`."""
    return {
        "object": "structured_decision",
        "model": model,
        "answers": {answer.question.name: _systemone_answer(answer) for answer in decision.answers},
        "usage": {"input_tokens": decision.prompt_tokens, "output_tokens": 0},
        "diagnostics": {
            answer.question.name: {"label_mass": answer.label_mass} for answer in decision.answers
        },
    }


def render_decisions(decision: Decision, *, model: str, shape: str) -> dict[str, Any]:
    """The answer of `POST /v1/decisions` in the shape of its request (`DecisionRequest.shape`)."""
    if shape == "sglang":
        return {
            "object": "decisions",
            "model": model,
            "answers": {answer.question.name: _sglang_answer(answer) for answer in decision.answers},
            "usage": {"prompt_tokens": decision.prompt_tokens, "completion_tokens": 0},
        }
    return {
        "model": model,
        "answers": [_openai_answer(answer) for answer in decision.answers],
        "usage": {
            "input_tokens": decision.prompt_tokens,
            "input_tokens_details": {"cached_tokens": decision.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": decision.prompt_tokens,
        },
    }


def _systemone_answer(answer: DecisionAnswer) -> dict[str, Any]:
    shared = {"probabilities": _by_option(answer), "confidence": answer.confidence}
    match answer.question.kind:
        case "choice":
            return {"type": "choice", "choice": answer.best.name, **shared}
        case "score":
            legend = {str(i): level.name for i, level in enumerate(answer.question.options)}
            return {"type": "score", "score": answer.score, "legend": legend, **shared}
        case _:
            return {"type": "noul", "noul": answer.probabilities[0], **shared}


def _sglang_answer(answer: DecisionAnswer) -> dict[str, Any]:
    result: dict[str, Any] = {"type": answer.question.kind}
    if answer.question.kind == "choice":
        result["choice"] = answer.best.name
    if answer.question.kind == "score":
        result["score"] = answer.score
    return result | {"probabilities": _by_option(answer), "label_mass": answer.label_mass}


def _openai_answer(answer: DecisionAnswer) -> dict[str, Any]:
    name, options = answer.question.name or None, answer.question.options
    pairs = list(zip(options, answer.probabilities, strict=True))
    match answer.question.kind:
        case "choice":
            return {
                "type": "choice",
                "name": name,
                "choice": answer.best.value,
                "confidence": answer.confidence,
                "probabilities": [{"value": option.value, "probability": p} for option, p in pairs],
            }
        case "score":
            return {
                "type": "score",
                "name": name,
                "score": answer.score,
                "confidence": answer.confidence,
                "probabilities": [
                    {"value": i, "label": level.name, "probability": p} for i, (level, p) in enumerate(pairs)
                ],
            }
        case _:
            return {"type": "predicate", "name": name, "probability": answer.probabilities[0]}


def _by_option(answer: DecisionAnswer) -> dict[str, float]:
    options = answer.question.options
    is_score = answer.question.kind == "score"
    names = [str(i) if is_score else option.name for i, option in enumerate(options)]
    return dict(zip(names, answer.probabilities, strict=True))


def _convert(body: Mapping[str, Any], kind: type[T]) -> T:
    refuse_unknown({name: value for name, value in body.items() if value is not None}, kind.__struct_fields__)
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the request is malformed: {error}") from None


def _question(name: str, kind: Kind, text: Content | None, options: list[Option]) -> Question:
    return Question(name=name, kind=kind, text=_text(text), options=tuple(options))


def _request(
    state: Content,
    questions: list[Question],
    given: SystemOneRequest | OpenAIDecisionsRequest | SGLangDecisionsRequest,
    shape: Literal["systemone", "openai", "sglang"],
    instructions: str = "",
) -> DecisionRequest:
    check_questions(questions)
    return DecisionRequest(
        state=_text(state),
        questions=tuple(questions),
        instructions=instructions,
        template_options=given.chat_template_kwargs or {},
        shape=shape,
    )


def _text(content: Content | bool | None) -> str:
    """Text as it is, anything else as compact JSON, nothing for nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
