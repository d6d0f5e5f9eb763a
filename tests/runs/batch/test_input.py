"""Which format a batch file has, and what its lines ask for."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.openai_api.chat import ChatExchange
from lqmf_runner.openai_api.completions import CompletionExchange
from lqmf_runner.runs.batch.input import BadLine, BatchItem, open_batch
from lqmf_runner.types import Message, SamplingParams

BASE = SamplingParams(max_tokens=50, temperature=0.0, seed=0)


def read(
    path: Path, content: str | bytes, system: str | None = None
) -> tuple[str, list[BatchItem | BadLine]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source = open_batch(path)
    return source.format, list(source.items("m", system, BASE))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "input"


def prompts(items: list[BatchItem | BadLine]) -> list[tuple[int, str, str]]:
    assert all(isinstance(item, BatchItem) for item in items), items
    return [(i.line, i.key, i.request.messages[-1].content) for i in items]  # type: ignore[union-attr, index]


def test_text_is_one_prompt_a_line(file: Path) -> None:
    kind, items = read(file, "\ufeffWhy, and when?\r\n\r\n  two  \nthree\u2028still three")
    assert kind == "text"
    assert prompts(items) == [
        (1, "line 1", "Why, and when?"),
        (3, "line 3", "  two  "),
        (4, "line 4", "three\u2028still three"),
    ]


def test_jsonl_may_bring_ids_messages_and_sampling(file: Path) -> None:
    talk = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    lines = [
        {"prompt": "one", "label": 3},
        {"id": 7, "prompt": "two", "max_tokens": 5, "temperature": 0.5, "stop": "x", "top_p": None},
        {"custom_id": "c", "messages": talk},
        {"prompt": "four", "system": "Shout."},
    ]
    kind, items = read(file, "\n".join(map(json.dumps, lines)), system="Be brief.")
    assert kind == "jsonl"
    assert prompts(items) == [(1, "line 1", "one"), (2, "7", "two"), (3, "c", "c"), (4, "line 4", "four")]
    first, second, third, fourth = (item.request for item in items if isinstance(item, BatchItem))
    assert first.messages == (Message("system", "Be brief."), Message("user", "one"))
    assert first.sampling == BASE
    assert second.sampling == SamplingParams(max_tokens=5, temperature=0.5, stop=("x",), seed=0)
    assert third.messages == tuple(Message(m["role"], m["content"]) for m in talk)
    assert fourth.messages is not None
    assert fourth.messages[0].content == "Shout."


@pytest.mark.parametrize("before", ["", "\n"])
@pytest.mark.parametrize("padding", ["", "x"])  # so that in one of them the 64 KB end within a character
def test_a_first_line_may_be_long(file: Path, before: str, padding: str) -> None:
    prompt = padding + "é" * 70_000
    kind, items = read(file, before + json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n")
    assert kind == "jsonl"
    assert [text for _, _, text in prompts(items)] == [prompt]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_known_by_its_header(file: Path, delimiter: str) -> None:
    rows = ["id,prompt,max_tokens,note", 'a,"two; lines,\nof ""text""\tx",9,', "b,short,,n", "", ",no id,,"]
    kind, items = read(
        file, "\r\n".join(rows).replace(",", delimiter) if delimiter != "," else "\r\n".join(rows)
    )
    assert kind == "csv"
    got = prompts(items)
    assert [(line, key) for line, key, _ in got] == [(2, "a"), (4, "b"), (6, "line 6")]
    assert got[0][2].splitlines()[1].startswith('of "text"')
    assert [i.request.sampling.max_tokens for i in items if isinstance(i, BatchItem)] == [9, 50, 50]


def openai(custom_id: str, url: str = "/v1/chat/completions", **body: Any) -> str:
    body = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}], **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def test_openai_batch_format(file: Path) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    lines = [
        openai(
            "r1", max_completion_tokens=3, temperature=0.2, user="me", n=1, stream=False, logit_bias={"5": -1}
        ),
        openai("r2", messages=parts, stop=["x", "y"]),
        openai("r3", url="/v1/completions", messages=None, prompt="once"),
    ]
    kind, items = read(file, "\n".join(lines))
    assert kind == "openai"
    first, second, third = (item for item in items if isinstance(item, BatchItem))
    assert first.key == "r1"
    assert first.request.sampling == SamplingParams(
        max_tokens=3, temperature=0.2, seed=0, logit_bias={5: -1.0}
    )
    assert second.request.messages == (Message("user", "ab"),)
    assert second.request.sampling.stop == ("x", "y")
    assert (third.request.prompt, third.request.messages) == ("once", None)
    assert [type(item.exchange) for item in (second, third)] == [ChatExchange, CompletionExchange]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"prompt": "torn', "not JSON"),
        ('{"prompt": "a", "temperature": NaN}', "not JSON: NaN is no number"),
        ("[1]", "not a JSON object"),
        ("{}", "no text in 'prompt' and no 'messages'"),
        ('{"prompt": "  "}', "no text"),
        ('{"prompt": 5}', "no text"),
        ('{"messages": []}', "not a list of messages"),
        ('{"messages": [{"content": "x"}]}', "no 'role'"),
        ('{"messages": [{"role": "user", "content": null}]}', r"messages\[0\].content' is required"),
        ('{"prompt": "x", "max_tokens": "many"}', "sampling is wrong: Expected `int"),
        ('{"prompt": "x", "id": "first"}', "its id 'first' is that of line 1"),
        ('{"prompt": "\\ud800"}', "not valid UTF-8"),
        (b'{"prompt": "caf\xe9"}', "not valid UTF-8"),
        ("[" * 100_000, "not JSON|nested"),
    ],
)
def test_one_bad_line_is_told_with_its_number(file: Path, line: str | bytes, why: str) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    _, items = read(file, b'{"prompt": "good", "id": "first"}\n' + raw + b'\n{"prompt": "good too"}\n')
    good, bad, also_good = items
    assert isinstance(good, BatchItem)
    assert isinstance(also_good, BatchItem)
    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert re.search(why, bad.reason), bad.reason


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (openai("x", url="/v1/embeddings"), "only POST to"),
        (openai("x", n=0), "body.n: "),
        (openai("x", tools=[{"type": "function"}]), "body.tools"),
        (openai("x", stream=True), "body.stream"),
        (openai("x", temperature="hot"), "body.temperature: "),
        (openai("r1"), "line 1"),
        ('{"custom_id": 5, "url": "/v1/completions", "body": {"prompt": "x"}}', "'custom_id' is not a text"),
        ('{"custom_id": "x", "url": "/v1/completions", "body": {"prompt": ["x", 1]}}', "body.prompt: "),
        ('{"custom_id": "x", "url": "/v1/completions"}', "no 'body'"),
        (openai("x", messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "is not a text part"),
    ],
)
def test_openai_lines_that_cannot_be_answered_are_told(file: Path, line: str, why: str) -> None:
    _, (_, bad) = read(file, f"{openai('r1')}\n{line}\n")
    assert isinstance(bad, BadLine)
    assert why in bad.reason


def test_bad_rows_of_csv(file: Path) -> None:
    _, items = read(file, b"prompt,id\nfine,1\na,b,c\ncaf\xe9,2\n,3\nlast,4\n")
    assert [(i.line, isinstance(i, BadLine)) for i in items] == [
        (2, False),
        (3, True),
        (4, True),
        (5, True),
        (6, False),
    ]
    assert "3 cells, the header 2" in items[1].reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n \r\n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"PK\x03\x04\x00\x00", "not text"),
        (bytes(range(128, 256)) * 20, "not text"),
        ("hello\nworld\n".encode("utf-16")[:-1], "not text in UTF-16"),
        ("hello\nworld\n".encode("utf-32"), "UTF-32"),
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00", "a workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "old Excel"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PAR1\x15", "Parquet"),
        (b'[\n  {"prompt": "x"}\n]\n', "not one object a line"),
        (b'{\n  "prompt": "x"\n}\n', "not one object a line"),
        (b'[{"prompt": "x"}]', "not one object a line"),
    ],
)
def test_files_that_are_no_batch_are_refused(file: Path, content: bytes, why: str) -> None:
    file.write_bytes(content)
    with pytest.raises(UserInputError, match=why) as caught:
        open_batch(file)
    assert caught.value.hint


def test_files_that_cannot_be_read_are_refused(file: Path) -> None:
    for path in (file, file.parent):
        with pytest.raises(UserInputError, match="cannot be read"):
            open_batch(path)


def test_a_pipe_is_refused(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(UserInputError, match="is a pipe"):
        open_batch(file)


def test_names_in_a_header_of_csv_may_stand_apart(file: Path) -> None:
    kind, items = read(file, "id, prompt\na,Why?\n")
    assert (kind, prompts(items)) == ("csv", [(2, "a", "Why?")])


def test_the_digest_changes_with_all_that_the_answer_depends_on(file: Path) -> None:
    file.write_text('{"prompt": "x"}\n')
    source = open_batch(file)

    def digest(model: str = "m", system: str | None = None, sampling: SamplingParams = BASE) -> str:
        (item,) = source.items(model, system, sampling)
        assert isinstance(item, BatchItem)
        return item.digest

    assert digest() == digest()
    others = {
        digest("n"),
        digest(system="s"),
        digest(sampling=SamplingParams(max_tokens=51, temperature=0.0, seed=0)),
    }
    assert len({digest(), *others}) == 4
