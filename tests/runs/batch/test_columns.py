"""Which column has the prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.runs.batch.columns import choose_column, find_name, with_reserved_names

PATH = Path("q.csv")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["id", "prompt", "Prompt", "question"], "prompt"),
        (["ID", "Prompt"], "Prompt"),
        (["id", "PROMPT", "text"], "PROMPT"),
        (["User Prompt", "note"], "User Prompt"),
        (["ID", "Customer", "Question", "Date"], "Question"),
        (["Nr", "Frage"], "Frage"),
        (["الرقم", "سؤال"], "سؤال"),
        (["編號", "問題"], "問題"),
        (["№", "Вопрос"], "Вопрос"),
        (["क्रम", "प्रश्न"], "प्रश्न"),
    ],
)
def test_the_name_says_it(names: list[str], chosen: str) -> None:
    assert choose_column(PATH, {name: ["x"] for name in names}, None) == chosen


def test_the_only_text_says_it() -> None:
    columns = {
        "no": ["1", "2"],
        "gêxta": ["Why?", ""],
        "date": ["2024-01-02"],
        "ID": ["a"],
        "Temperature": ["x"],
    }
    assert choose_column(PATH, columns, None) == "gêxta"


@pytest.mark.parametrize(
    "columns",
    [
        {"instruction": ["a"], "input": ["b"], "output": ["c"]},
        {"Prompt": ["a"], "PROMPT": ["b"]},
        {"name": ["a"], "city": ["b"]},
        {"nr": ["1"], "year": ["2"]},
        {"hello": ["world"]},
    ],
)
def test_otherwise_it_is_asked_for(columns: dict[str, list[Any]]) -> None:
    with pytest.raises(UserInputError, match=r"not clear which column of q\.csv") as caught:
        choose_column(PATH, columns, None)
    assert all(name in caught.value.message for name in columns)
    assert f"mode.prompt_field={next(iter(columns))}" in caught.value.hint
    with pytest.raises(UserInputError, match="not clear which key") as caught:
        choose_column(PATH, columns, None, keys=True)


def test_a_column_without_a_name_is_only_taken_if_asked_for() -> None:
    """Else a title above the header would make the header a prompt."""
    columns = {"Report": ["1", "2"], "column 2": ["Vraagstuk", "why?"]}
    with pytest.raises(UserInputError, match="not clear"):
        choose_column(PATH, columns, None, unnamed={"column 2"})
    assert choose_column(PATH, columns, "column 2", unnamed={"column 2"}) == "column 2"


def test_a_name_may_be_asked_for_in_another_case() -> None:
    assert choose_column(PATH, {"prompt": [], "Notes": []}, "notes") == "Notes"
    assert find_name(["a", "A"], "A") == "A"
    assert find_name(["b", "B"], "b ") is None


def test_a_wrong_name_is_answered_with_the_names_there_are() -> None:
    columns: dict[str, list[Any]] = {"id": [], "User question": []}
    with pytest.raises(
        UserInputError, match="no column 'user qestion': its columns are id, User question"
    ) as caught:
        choose_column(PATH, columns, "user qestion")
    assert caught.value.hint == "did you mean 'mode.prompt_field=User question'?"
    with pytest.raises(UserInputError) as caught:
        choose_column(PATH, {f"column {n}": [] for n in range(40)}, "zzz")
    assert "column 11 and 28 more" in caught.value.message
    with pytest.raises(UserInputError) as caught:
        choose_column(PATH, {"ID": [], "Question": []}, "zzz")
    assert caught.value.hint == "name one of them, for example mode.prompt_field=Question"


def test_reserved_names_are_those_in_any_case() -> None:
    assert with_reserved_names({"ID": 1, "Max_Tokens": 2, "Label": 3}) == {
        "id": 1,
        "max_tokens": 2,
        "Label": 3,
    }
    assert with_reserved_names({"ID": 1, "id": 2}) == {"ID": 1, "id": 2}
