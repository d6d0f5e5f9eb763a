"""Sessions: kept line by line, taken up again, summed up, and what they say about a way out after an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from lqmf_runner.console.advice import way_out
from lqmf_runner.console.session import DONE, FAILED, REFUSED, Entry, Session, all_entries, open_session


def _entry(
    command: str = "lqmf mode=chat model=m",
    outcome: str = DONE,
    at: str = "2026-01-05T10:00:00+00:00",
    **more: object,
) -> Entry:
    return Entry(
        at=at,
        say="s",
        intent="CHAT_WITH_MODEL",
        arguments={"model": "m"},
        command=command,
        outcome=outcome,
        **more,  # type: ignore[arg-type]
    )


def test_a_session_is_taken_up_again(tmp_path: Path) -> None:
    first = open_session(tmp_path, "work")
    first.add(_entry(seconds=1.5, requests=16, tokens=100))
    first.add(_entry(outcome=REFUSED))
    again = open_session(tmp_path, "work")
    assert again.entries == first.entries
    assert again.models == ["m"]
    assert again.statistics() == {
        "commands done": 1,
        "commands failed": 0,
        "cancelled or refused": 1,
        "requests measured": 16,
        "output tokens measured": 100,
        "seconds of work": 1.5,
    }


def test_a_session_without_a_name_is_a_new_one(tmp_path: Path) -> None:
    assert open_session(tmp_path, None).name not in ("", "one-shot")
    assert open_session(tmp_path, None, one_shot=True).name == "one-shot"


def test_two_consoles_share_a_session(tmp_path: Path) -> None:
    one, two = Session(tmp_path, "w"), Session(tmp_path, "w")
    for session in (one, two, one):
        session.add(_entry())
    assert len(Session(tmp_path, "w").entries) == 3


def test_a_line_that_a_crash_has_cut_is_passed_over(tmp_path: Path) -> None:
    session = Session(tmp_path, "w")
    session.add(_entry())
    with (session.folder / "transcript.jsonl").open("ab") as file:
        file.write(b'{"at": "2026-\n\xff\n')
    assert len(Session(tmp_path, "w").entries) == 1


def test_a_session_that_cannot_be_kept_goes_on(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("a file where the folder should be")
    session = Session(tmp_path, "w")
    session.add(_entry())
    assert session.entries
    assert session.problem.startswith("this session is not kept")


def test_what_worked_before_is_a_way_out() -> None:
    failed = _entry("lqmf mode=chat model=m backend.n_ctx=16384", FAILED)
    past = [_entry("lqmf mode=chat model=m backend.n_ctx=4096"), failed, failed]
    advice = way_out(failed, past)
    assert advice is not None
    assert advice.text == (
        "This has failed 2 times with backend.n_ctx=16384; it worked on 2026-01-05 with backend.n_ctx=4096."
    )
    assert advice.arguments == ("mode=chat", "model=m", "backend.n_ctx=4096")


@pytest.mark.parametrize(
    "past",
    [
        [],
        [_entry("lqmf mode=chat model=m x=1", FAILED)],  # never worked
        [_entry("lqmf mode=chat model=m x=1")],  # worked just so
        [_entry("lqmf mode=chat model=m backend.api_key=***")],  # a secret that is not kept
    ],
)
def test_without_something_else_that_worked_there_is_no_advice(past: list[Entry]) -> None:
    assert way_out(_entry("lqmf mode=chat model=m x=1", FAILED), past) is None


def test_advice_reads_all_sessions(tmp_path: Path) -> None:
    Session(tmp_path, "b").add(_entry(at="2026-01-02T00:00:00+00:00"))
    Session(tmp_path, "a").add(_entry(at="2026-01-03T00:00:00+00:00"))
    assert [entry.at[:10] for entry in all_entries(tmp_path)] == ["2026-01-02", "2026-01-03"]
