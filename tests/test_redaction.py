"""Secrets are found, and taken out of what a run leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.formats.openai import OpenAIBackend
from lqmf_runner.redaction import redact_files, redact_text, secrets_in


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("http://u:p@h/v1", "u:p"),
        ("http://token@h/v1", "token"),
        ("postgresql://u:pa/ss@db/mlflow", "u:pa/ss"),
        ("postgresql://u:pa?s#s@db/mlflow", "u:pa?s#s"),
    ],
)
def test_logins_are_found_in_urls(url: str, login: str) -> None:
    assert secrets_in({"uri": url}) == [login]
    assert redact_text(f"see {url} there") == f"see {url.replace(login, '***')} there"


@pytest.mark.parametrize(
    "text", ["http://h:8080/v1 mail a@b.org", '{"a": "http://h:80/v1", "b": "x@y"}', "a@b"]
)
def test_addresses_without_a_login_stay(text: str) -> None:
    assert redact_text(text) == text


def test_a_login_with_the_escapes_of_the_command_line_is_taken_out_of_saved_files(tmp_path: Path) -> None:
    saved = tmp_path / ".hydra" / "overrides.yaml"
    saved.parent.mkdir()
    saved.write_text("- backend.base_url=http://u:p\\,w@h/v1\n")
    redact_files(tmp_path, None, ["u:p,w"])
    assert saved.read_text() == "- backend.base_url=http://***@h/v1\n"


def test_a_key_in_place_of_its_variable_is_refused_and_not_shown() -> None:
    with pytest.raises(UserInputError, match="not the name of an environment variable") as caught:
        OpenAIBackend(api_key_env="sk-abc123")
    assert "sk-abc123" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "url", ["http://host:port/v1", "http://", "ftp://h/v1", "h:8080/v1", "http://u:s3/cret@h/v1"]
)
def test_what_is_no_address_is_refused_and_no_login_shown(url: str) -> None:
    with pytest.raises(UserInputError, match="is not the address of an endpoint") as caught:
        OpenAIBackend(base_url=url)
    assert "s3/cret" not in caught.value.message
