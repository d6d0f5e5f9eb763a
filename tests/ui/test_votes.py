"""The votes of the arena."""

from __future__ import annotations

from pathlib import Path

from lqmf_runner.ui.votes import FILE, TIE, count_votes, keep_vote


def test_votes_are_counted_once_each(tmp_path: Path):
    assert keep_vote(tmp_path, "1", "q", ["a", "b"], "b", blind=True)
    assert not keep_vote(tmp_path, "1", "q", ["a", "b"], "a", blind=True)
    assert keep_vote(tmp_path, "2", "q", ["a", "b"], TIE, blind=False)
    assert count_votes(tmp_path) == [["b", "2", "1", "1", "0", "1"], ["a", "2", "0", "1", "1", "0"]]


def test_a_line_that_was_torn_is_passed_over(tmp_path: Path):
    keep_vote(tmp_path, "1", "q", ["a", "b"], "a", blind=True)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"round": "2", "at"')
    assert len(count_votes(tmp_path)) == 2
