from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.server.guards.keys import KeyRing, add_key, load_keys, parse_keys, read_key_file, remove_key

from ...conftest import Run


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_roles_of_the_environment() -> None:
    ring = KeyRing(parse_keys("both, reader:use ,boss:admin,,twice:use,twice:admin"))
    found = {key: ring.find(key.encode()) for key in ("both", "reader", "boss", "twice")}
    assert {key: match and match.admin for key, match in found.items()} == {
        "both": True, "reader": False, "boss": True, "twice": True,
    }  # fmt: skip
    names = [match.name for match in found.values() if match]
    assert len(set(names)) == 4  # limits and logs tell them apart


@pytest.mark.parametrize(
    "presented", [b"", b"bot", b"both ", b"both:admin", b"BOTH", b"\xff\x00", b"reader:use"]
)
def test_nothing_else_is_a_key(presented: bytes) -> None:
    assert KeyRing(parse_keys("both,reader:use")).find(presented) is None


@pytest.mark.parametrize("text", [" ", ",,", "sesame:root", "a b", ":admin", "sésame", "se:same:admin"])
def test_a_malformed_variable_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UserInputError) as caught:
        parse_keys(text)
    assert "sesame" not in caught.value.message + caught.value.hint


def test_a_file_holds_hashes_alone_and_is_the_owners(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "k.json"
    key = add_key(path, "alice", ("use",))
    add_key(path, "bob")
    assert key not in path.read_text()
    assert json.loads(path.read_text())[0]["sha256"] == hashlib.sha256(key.encode()).hexdigest()
    assert path.stat().st_mode & 0o077 == 0
    found = KeyRing(file=path).find(key.encode())
    assert found is not None
    assert (found.name, found.admin) == ("alice", False)
    assert list(path.parent.iterdir()) == [path]


def test_names_are_unique_and_plain(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    add_key(path, "alice")
    with pytest.raises(UserInputError, match="already"):
        add_key(path, "alice")
    with pytest.raises(UserInputError, match="no name"):
        add_key(path, "a\nb")
    with pytest.raises(UserInputError, match="no key 'carol'"):
        remove_key(path, "carol")
    assert [key.name for key in read_key_file(path)] == ["alice"]


def test_a_removed_key_is_refused_by_a_running_server_which_stays_closed(tmp_path: Path) -> None:
    path, clock = tmp_path / "k.json", Clock()
    key = add_key(path, "alice").encode()
    ring = KeyRing(file=path, clock=clock)
    assert ring.find(key)
    remove_key(path, "alice")
    clock.now += 2
    assert ring.find(key) is None
    assert ring.required


def test_a_damaged_file_leaves_the_keys_as_they_were(tmp_path: Path) -> None:
    path, clock = tmp_path / "k.json", Clock()
    key = add_key(path, "alice").encode()
    ring = KeyRing(file=path, clock=clock)
    path.write_text("[{]")
    clock.now += 2
    assert ring.find(key)
    path.unlink()
    clock.now += 2
    assert ring.find(key)


@pytest.mark.parametrize(
    "text",
    ["{", "{}", '[{"name": "a", "sha256": "abc"}]', '[{"name": "a", "sha256": "%s", "roles": ["root"]}]'],
)
def test_a_server_does_not_start_on_a_damaged_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "k.json"
    path.write_text(text.replace("%s", "0" * 64))
    with pytest.raises(UserInputError):
        load_keys(str(path))


def test_where_keys_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LQMF_API_KEYS", raising=False)
    assert not load_keys(None).required
    with pytest.raises(UserInputError, match="cannot be read"):
        load_keys("elsewhere.json")  # a file that was named and is missing must not mean an open server
    key = add_key(Path("api-keys.json"), "alice").encode()
    assert load_keys(None).find(key)
    monkeypatch.setitem(os.environ, "LQMF_API_KEYS", "sesame")
    ring = load_keys(None)
    assert ring.find(b"sesame")
    assert ring.find(key)


def test_a_server_that_lets_nobody_in_says_so_at_its_start(run_program: Run, tmp_path: Path) -> None:
    file = tmp_path / "api-keys.json"
    add_key(file, "alice")
    remove_key(file, "alice")
    assert load_keys(str(file)).admits_nobody
    said = run_program("serve", "server.certfile=none.pem", "server.keyfile=none.pem").stderr
    assert "no key is left in api-keys.json: this server lets nobody in until" in said
    add_key(file, "bob")
    assert not load_keys(str(file)).admits_nobody
