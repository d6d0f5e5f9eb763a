"""The items of a conversation: those of a request in one form, with ids, and the turns made from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import FieldError
from ..answers import new_id
from ..schemas import ChatMessage, StoredCall, StoredFunction
from .tools import shown_name

Item = dict[str, Any]
FindItem = Callable[[str], Item | None]
_TEXT_PARTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_ROLES = ("user", "assistant", "system", "developer")
_UNREADABLE = {
    "input_image": "[an image: this model can read only text]",
    "input_file": "[a file: this model can read only text]",
}
_KINDS = "message, function_call, function_call_output, reasoning and item_reference"


def read_items(given: str | Sequence[Item] | None, find: FindItem) -> list[Item]:
    """The items of a request's `input`, each with all its fields and an id.

    Args:
        find: the kept item with an id; None where there is none.

    Raises:
        FieldError: an item is malformed, refers to one that is not kept, or is of a kind that is not supported.
    """
    if given is None:
        return []
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_item(item, f"input[{index}]", find) for index, item in enumerate(given)]


def turns(items: Sequence[Item], instructions: str | None, n_kept: int = 0) -> list[ChatMessage]:
    """The conversation that items make.

    Chat templates want one system message at the beginning, so that the instructions and all system messages at the
    beginning are one. They want thoughts, text and calls of an assistant in one turn, so that these are joined.

    Args:
        n_kept: how many of the items are of earlier requests.

    Raises:
        FieldError: an output belongs to no call.
    """
    found: list[ChatMessage] = []
    system = [instructions] if instructions else []
    called: set[str] = set()
    open_turn: ChatMessage | None = None
    for index, item in enumerate(items, -n_kept):
        kind, role = item["type"], item.get("role")
        if role in ("system", "developer") and not found:
            system.append(_joined(item["content"]))
            continue
        if kind in ("function_call", "reasoning") or role == "assistant":
            if open_turn is None or _is_closed(open_turn, kind):
                open_turn = ChatMessage("assistant")
                found.append(open_turn)
            _add(open_turn, item)
            called |= {item["call_id"]} if kind == "function_call" else set()
            continue
        open_turn = None
        if kind == "function_call_output":
            if item["call_id"] not in called:
                raise FieldError(
                    f"no function_call has the call_id {item['call_id'][:60]!r}",
                    param=f"input[{index}].call_id",
                    hint="send the call before its output, or its response's id as previous_response_id",
                )
            found.append(ChatMessage("tool", _joined(item["output"]), tool_call_id=item["call_id"]))
        else:
            found.append(ChatMessage(item["role"], _joined(item["content"])))
    if system:
        found.insert(0, ChatMessage("system", "\n\n".join(system)))
    return found


def _is_closed(turn: ChatMessage, kind: str) -> bool:
    """Whether an item of the kind begins another turn: a text or thoughts behind a text, where no call waits."""
    return kind != "function_call" and turn.content is not None and not turn.tool_calls


def _add(turn: ChatMessage, item: Item) -> None:
    match item["type"]:
        case "function_call":
            function = StoredFunction(shown_name(item.get("namespace"), item["name"]), item["arguments"])
            turn.tool_calls = [*(turn.tool_calls or []), StoredCall(function, item["call_id"])]
        case "reasoning":
            thoughts = _joined(item.get("content") or item.get("summary") or [], "\n")
            turn.reasoning_content = "\n".join(filter(None, (turn.reasoning_content, thoughts))) or None
        case _:
            said = turn.content if isinstance(turn.content, str) else ""
            turn.content = said + _joined(item["content"])


def _item(given: Item, where: str, find: FindItem) -> Item:
    kind = given.get("type") or (
        "message" if "role" in given else "item_reference" if "id" in given else None
    )
    match kind:
        case "message":
            return _message(given, where)
        case "function_call":
            name, arguments = _text(given, "name", where), given.get("arguments")
            if isinstance(arguments, dict):
                arguments = json.dumps(arguments)
            elif not isinstance(arguments, str):
                arguments = "{}"
            call_id = given.get("call_id") or given.get("id")
            if not isinstance(call_id, str):
                raise FieldError(f"'{where}.call_id' is required", param=f"{where}.call_id")
            call = {**_head(given, "fc", kind), "call_id": call_id, "name": name, "arguments": arguments}
            namespace = _text(given, "namespace", where) if given.get("namespace") else ""
            return {**call, "namespace": namespace} if namespace else call
        case "function_call_output":
            output = given.get("output")
            text = [] if output is None else _parts(_readable(output), f"{where}.output", "input_text")
            return {**_head(given, "fco", kind), "call_id": _text(given, "call_id", where), "output": text}
        case "reasoning":
            thoughts = {
                name: _thoughts(given[name], f"{where}.{name}")
                for name in ("summary", "content")
                if given.get(name) is not None
            }
            return {**_head(given, "rs", kind), "summary": [], **thoughts}
        case "item_reference":
            known = find(_text(given, "id", where))
            if known is None:
                raise FieldError(
                    f"there is no item {given['id'][:60]!r}",
                    param=f"{where}.id",
                    hint="it may have expired, or was made with store=false; send the item itself",
                )
            return known
        case None:
            raise FieldError(f"'{where}.type' is required", param=f"{where}.type", hint=f"there are {_KINDS}")
    raise FieldError(
        f"items of type {str(kind)[:60]!r} are not supported",
        param=f"{where}.type",
        hint=f"there are {_KINDS}",
    )


def _message(given: Item, where: str) -> Item:
    role, content = given.get("role"), given.get("content")
    if role not in _ROLES:
        raise FieldError(
            f"'{where}.role' is wrong: there is no role {str(role)[:60]!r}",
            param=f"{where}.role",
            hint=f"roles: {', '.join(_ROLES)}; a tool's answer is a function_call_output",
        )
    if content is None and role == "assistant":
        content = ""
    parts = _parts(content, f"{where}.content", "output_text" if role == "assistant" else "input_text")
    return {**_head(given, "msg", "message"), "role": role, "content": parts}


def _head(given: Item, prefix: str, kind: str) -> Item:
    own = given.get("id")
    return {
        "id": own if isinstance(own, str) and own else new_id(prefix, "_"),
        "type": kind,
        "status": "completed",
    }


def _readable(output: Any) -> Any:
    """A tool's output with a text in the place of each image or file, which tells the model that it cannot read it.

    The user did not send it but a tool that the model has called, and it stays in the conversation: refused, the
    conversation could not go on.
    """
    if not isinstance(output, list):
        return output
    return [
        _part("input_text", _UNREADABLE[part["type"]])
        if isinstance(part, dict) and part.get("type") in _UNREADABLE
        else part
        for part in output
    ]


def _parts(content: Any, where: str, kind: str) -> list[Item]:
    """Texts as parts of one kind. An assistant's refusal is a text too."""
    if isinstance(content, str):
        return [_part(kind, content)]
    if not isinstance(content, list):
        raise FieldError(f"'{where}' is required: a text, or a list of parts", param=where)
    found = []
    for number, part in enumerate(content):
        match part:
            case {"type": "refusal", "refusal": str(text)} if kind == "output_text":
                found.append(_part(kind, text))
            case {"type": part_kind, "text": str(text)} if part_kind in _TEXT_PARTS:
                found.append(_part(kind, text))
            case _:
                raise FieldError(
                    f"'{where}[{number}]' is not a text part",
                    param=f"{where}[{number}]",
                    hint=f'parts are {{"type": "{kind}", "text": "..."}}; images and files are not supported',
                )
    return found


def _thoughts(given: Any, where: str) -> list[Item]:
    """The texts of a reasoning item's parts; other parts say nothing that can be read."""
    if not isinstance(given, list):
        raise FieldError(f"'{where}' is wrong: it is a list of parts", param=where)
    kind = "summary_text" if where.endswith("summary") else "reasoning_text"
    return [
        _part(kind, text)
        for part in given
        if isinstance(part, dict) and isinstance(text := part.get("text"), str)
    ]


def _part(kind: str, text: str) -> Item:
    more: Item = {"annotations": []} if kind == "output_text" else {}
    return {"type": kind, "text": text, **more}


def _joined(parts: Sequence[Mapping[str, Any]], mark: str = "") -> str:
    return mark.join(part["text"] for part in parts)


def _text(given: Item, name: str, where: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise FieldError(f"'{where}.{name}' is required", param=f"{where}.{name}")
    return value
