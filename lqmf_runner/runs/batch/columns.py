"""Which column of a table, or which key of JSON lines, has the prompts."""

from __future__ import annotations

import difflib
import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserInputError
from ...types import SamplingParams

SAMPLING = frozenset(SamplingParams.__struct_fields__) - {"logprobs", "constraint"}
RESERVED = frozenset({"id", "custom_id", "messages", "system"}) | SAMPLING
"""Names that mean something in a line, in any case."""
_PROMPT = frozenset(
    {"prompt", "prompts", "userprompt", "prompttext", "textprompt", "inputprompt", "eingabeaufforderung"}
    | {"プロンプト", "提示词", "提示詞", "프롬프트", "промпт"}
)
# Other words for a prompt, without blanks and signs. Two of them in one file are ambiguous.
_OTHER_WORDS = """
    question questions questiontext userquestion query queries userquery instruction instructions input inputs inputtext
    userinput text message usermessage content request userrequest task
    frage fragen fragetext anfrage aufgabe anweisung eingabe nachricht
    pregunta preguntas consulta solicitud mensaje texto entrada instrucción
    demande requête requete consigne texte saisie domanda domande richiesta testo messaggio
    pergunta perguntas mensagem vraag vragen tekst bericht fråga fragor frågor spørsmål spørgsmål kysymys
    pytanie pytania otázka otázky kérdés întrebare soru sorular câuhỏi pertanyaan
    вопрос вопросы запрос питання запит ερώτηση שאלה سؤال السؤال प्रश्न คำถาม
    問題 问题 質問 提問 提问 질문
"""
AS_TEXT = "if every line is a prompt: mode.input_format=text"
_SHOWN = 12
_LONGEST_NAME = 40


class ColumnNotClearError(UserInputError):
    """It is ambiguous which of the columns `names` has the prompts."""

    def __init__(self, names: Sequence[str], message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.names = tuple(names)


def fold(name: str) -> str:
    """A name without case, blanks and signs, so that "User Prompt" is "user_prompt"."""
    return re.sub(r"[\W_]+", "", name.casefold())


_QUESTION = frozenset(map(fold, _OTHER_WORDS.split()))


def is_prompt_word(name: str) -> bool:
    """Whether a column of this name is likely to have the prompts."""
    return fold(name) in _PROMPT or fold(name) in _QUESTION


def choose_column(
    path: Path,
    columns: Mapping[str, Sequence[Any]],
    asked: str | None,
    *,
    keys: bool = False,
    unnamed: Collection[str] = (),
) -> str:
    """The name of the column with the prompts.

    Args:
        columns: some values of each, by name.
        asked: `mode.prompt_field`; None leaves the choice to the names, or else to the values.
        keys: they are keys of JSON and not columns of a table.
        unnamed: columns to choose only if they are asked for.

    Raises:
        UserInputError: there is no such column, or the choice is not clear; the columns are named.
    """
    names, kind = list(columns), "key" if keys else "column"
    if asked is not None:
        if (found := find_name(names, asked)) is not None:
            return found
        close = difflib.get_close_matches(asked.casefold(), [name.casefold() for name in names], n=1)
        likely = next((name for name in names if close and name.casefold() == close[0]), None)
        other = next((name for name in names if is_prompt_word(name)), names[0])
        raise UserInputError(
            f"{path} has no {kind} '{asked[:_LONGEST_NAME]}': {_listed(names, kind)}",
            hint=f"did you mean {_setting(likely)}?"
            if likely
            else f"name one of them, for example {_setting(other)}",
        )
    if "prompt" in columns:
        return "prompt"
    free = [name for name in names if name.casefold() not in RESERVED]
    for words in (_PROMPT, _QUESTION):
        if likely_ones := [name for name in free if fold(name) in words]:
            break
    else:
        likely_ones = [name for name in free if len(names) > 1 and any(map(_is_text, columns[name]))]
    if len(likely_ones) == 1 and likely_ones[0] not in unnamed:
        return likely_ones[0]
    example = _setting((likely_ones or free or names)[0])
    raise ColumnNotClearError(
        names,
        f"it is not clear which {kind} of {path} has the prompts: {_listed(names, kind)}",
        hint=f"name it, for example {example}" + ("" if keys else f"; {AS_TEXT}"),
    )


def find_name(names: Sequence[str], asked: str) -> str | None:
    """The given name among others: exactly, otherwise in another case if only one matches."""
    if asked in names:
        return asked
    same = [name for name in names if name.casefold() == asked.strip().casefold()]
    return same[0] if len(same) == 1 else None


def with_reserved_names(record: dict[str, Any]) -> dict[str, Any]:
    """A line with its reserved names in lower case, unless it has two of that name."""
    others = [name for name in record if name not in RESERVED and name.casefold() in RESERVED]
    if not others:
        return record
    counts = Counter(map(str.casefold, record))
    renamed = {name: low for name in others if counts[low := name.casefold()] == 1}
    return {renamed.get(name, name): value for name, value in record.items()}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and any(map(str.isalpha, value))


def _listed(names: Sequence[str], kind: str) -> str:
    shown = ", ".join(shown_name(name) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"its {kind}s are {shown}{more}" if len(names) > 1 else f"its only {kind} is {shown}"


def shown_name(name: str) -> str:
    """A name that can be printed, shortened if necessary."""
    name = name.encode("utf-8", "replace").decode()
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _setting(name: str) -> str:
    """The setting to type in a shell."""
    name = name.encode("utf-8", "replace").decode()
    return shlex.quote(f"mode.prompt_field={name}")
