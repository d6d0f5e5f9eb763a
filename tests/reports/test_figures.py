"""How figures are written."""

from __future__ import annotations

from lqmf_runner.reports import figures as fig


def test_figures_for_people() -> None:
    assert [fig.number(v) for v in (None, 0.0, 0.1234, 1.234, 12.34, 123.4, 12345.6)] == [
        "–", "0.00", "0.123", "1.23", "12.3", "123", "12,346",
    ]  # fmt: skip
    assert fig.number(0.00021) == "2.1e-04"
    assert [fig.plus_minus(v, e) for v, e in ((0.00321, 0.000358), (17.66, 5.8), (1234.5, 100), (2.0, None))] == [
        "0.00321 ± 0.00036", "17.7 ± 5.8", "1,234 ± 100", "2.00",
    ]  # fmt: skip
    assert fig.percent(0.356) == "36 %"
    assert fig.megabytes(0) == "–"
    assert fig.megabytes(25_276.5) == "25.3 GB"
