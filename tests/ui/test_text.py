"""What is made of texts before the page shows them."""

from __future__ import annotations

import html
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lqmf_runner.ui.text import (
    as_markdown,
    as_typed,
    code_block,
    command,
    from_markdown,
    from_typed,
    run_setting,
    speed,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("![x](http://evil/x.png)", "&#33;[x](http://evil/x.png)"),
        ("a &lt; b", "a &amp;lt; b"),
        ("a < b && c", "a < b && c"),
        ("\\`<b>`", "\\`&lt;b>`"),
        ("``` <b>\n<i>\n```", "``` &lt;b>\n<i>\n```"),
        ("- ```\n  <b>\n  ```\n<b>", "- ```\n  <b>\n  ```\n&lt;b>"),
        ("    `\n<b> `", "    `\n&lt;b> `"),
        ("|a|b|\n|-|-|\n|`x|<b>`|", "|a|b|\n|-|-|\n|`x|&lt;b>`|"),
        ("$$`$$ <b> `", "$$`$$ &lt;b> `"),
        ("`<b>` <b>", "`<b>` &lt;b>"),
        ("```html\n<b>\n```\n<b>", "```html\n<b>\n```\n&lt;b>"),
        ("```\n<b>", "```\n<b>"),
        ("**bold** and [a link](http://x)", "**bold** and [a link](http://x)"),
    ],
)
def test_markup_is_text_and_code_stays(text: str, shown: str):
    assert as_markdown(text) == shown


@given(st.text(alphabet="`~<>&![]\\\n a;lt-|>#9$", max_size=60))
def test_a_text_comes_back(text: str):
    assert from_markdown(as_markdown(text)) == text


@given(st.text(alphabet="`~<>&![]\\\n a;lt-|>#9$*_\t.np", max_size=60))
def test_what_was_typed_comes_back(text: str):
    assert from_typed(as_typed(text)) == text


def test_what_was_typed_has_no_markdown():
    typed = "def __init__(self, *args):\n    return 1\n# not a heading\n- no list\n1. `x` <b>"
    shown = MarkdownIt("commonmark").enable("table").render(as_typed(typed))
    text = html.unescape(shown.strip().removeprefix("<p>").removesuffix("</p>"))
    assert text.replace("\xa0", " ") == typed


def test_a_command_can_be_pasted_into_a_shell():
    assert shlex.split(command("chat", "m", "it's `$HOME`")) == ["lqmf", "chat", "m", "it's `$HOME`"]


@pytest.mark.parametrize(("text", "fence"), [("a", "```"), ("```\na", "````"), ("a `` b", "```")])
def test_a_block_of_code_ends_where_it_should(text: str, fence: str):
    assert code_block(text) == f"{fence}\n{text}\n{fence}"


@pytest.mark.parametrize(
    ("folder", "setting"),
    [
        ("/a/2026-01-31/10-00-00-compare", "runs=[/a/2026-01-31/10-00-00-compare]"),
        ("/a b/it's", "runs=['/a b/it\\'s']"),
        ("/a/${x}", "runs=['/a/${x}']"),
    ],
)
def test_a_folder_is_quoted_where_its_name_needs_it(folder: str, setting: str):
    assert run_setting([Path(folder)]) == setting


@pytest.mark.parametrize(
    ("tokens", "seconds", "shown"),
    [(14, 35.0, "0.4 tok/s"), (199, 20.0, "10 tok/s"), (3000, 2.0, "1,500 tok/s")],
)
def test_a_low_speed_is_not_shown_as_none(tokens: int, seconds: float, shown: str):
    assert speed(tokens, seconds) == shown
