"""Answers side by side: up to where they agree, and with which."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lqmf_runner.reports import write_reports
from lqmf_runner.reports.side_by_side import compare_answers, split_at_parting
from lqmf_runner.results.files import read_requests
from lqmf_runner.results.logs.request_log import RequestLog
from lqmf_runner.results.verdict import Verdict
from tests.support.runs.sample import sample_model, sample_record, sample_results
from tests.support.screens.page import Page

VERDICT = Verdict(winner=None, headline="None qualifies", sentences=["b is nearest."], reference="ref")


def test_answers_are_held_to_the_references(tmp_path: Path) -> None:
    results = sample_results(*(sample_model(name) for name in ("a", "ref", "b", "silent")))
    results.verdict = VERDICT
    texts = {"a": "one two  three four", "ref": "one two THREE four", "b": "one two THREE", "silent": ""}
    with RequestLog(tmp_path) as log:
        for name, text in texts.items():
            log.write(sample_record(name, "c1", 0, text=text))
    records = read_requests(tmp_path)
    (comparison,) = compare_answers(results, records, {"p0": "Count."}, 5)
    assert comparison.prompt == "Count."
    assert [(x.model, x.parting, x.note) for x in comparison.answers] == [
        ("ref", "", ""),
        ("a", "three", "parts from ref after 2 words"),
        ("b", "", "the same, but ends after 3 words"),
        ("silent", "", "the same, but ends after 0 words"),
    ]
    assert write_reports(results, tmp_path) == []
    page = (tmp_path / "report.html").read_text("utf-8")
    assert Page(page).within["mark"] == ["three"]
    assert "parts from that of ref, the reference." in page
    results.models = [model for model in results.models if model.name != "ref"]
    assert write_reports(results, tmp_path) == []
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "parts from that of a, the first model: the reference ref is not among the models" in page


@given(st.text(), st.text())
def test_the_parts_of_an_answer_join_to_it(base: str, other: str) -> None:
    same, parting, rest = split_at_parting(base, other)
    assert same + parting + rest == other
    assert base.split()[: len(same.split())] == same.split()
    assert bool(parting) == (other.split() != base.split()[: len(other.split())])
