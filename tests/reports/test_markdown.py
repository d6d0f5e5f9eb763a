"""Text from outside stays text in Markdown."""

from __future__ import annotations

from markdown_it import MarkdownIt

from lqmf_runner.reports.markdown import escape
from tests.support.screens.page import EVIL


def test_markdown_table_cells_stay_in_their_cells() -> None:
    table = f"| h | i |\n| --- | --- |\n| {escape(EVIL)} | end |\n"
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(table)
    assert rendered.count("<td") == 2
    assert "<td>end</td>" in rendered
