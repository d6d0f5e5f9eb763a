"""`lqmf pull` against a hub on this machine: what it says, what it leaves, and how it goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lqmf_runner.models import discover
from lqmf_runner.models.pull.record import read_record

from ...conftest import Run
from ...support.models.hub import Hub, files_in, hub
from ...support.models.tiny import make_checkpoint, make_gguf

PLAIN, GGUF = "owner/plain", "owner/ggufs"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("hub")
    checkpoint = files_in(make_checkpoint(folder / "tiny"))
    weights = make_gguf(folder / "tiny.gguf").read_bytes()
    return {
        PLAIN: {**checkpoint, "pytorch_model.bin": b"pickle", "README.md": b"# read me"},
        GGUF: {"tiny-Q4_0.gguf": weights, "sub/tiny-Q8_0.gguf": weights, "mmproj.gguf": b"GGUF"},
        "owner/pickled": {"config.json": b"{}", "pytorch_model.bin": b"pickle"},
        "owner/coded": {**checkpoint, "config.json": b'{"auto_map": {"AutoModel": "x.Y"}}'},
    }


@pytest.fixture
def served(repositories: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    with hub({name: dict(files) for name, files in repositories.items()}) as server:
        yield server


@pytest.fixture
def pull(run_program: Run, served: Hub, tmp_path: Path):
    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = run_program("pull", *words, env={**served.env, "HF_HOME": str(tmp_path / "cache")})
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def visible(models: Path) -> list[str]:
    return sorted(p.name for p in models.iterdir()) if models.exists() else []


def test_a_checkpoint_is_fetched_proved_and_runs_by_its_name(pull, served: Hub, tmp_path: Path) -> None:
    said = pull(PLAIN).stdout
    folder = tmp_path / "quantized-models" / "plain"
    assert "to quantized-models/plain\n" in said
    assert "to fetch," in said
    assert ": it fits" in said
    assert said.endswith("next: lqmf chat plain\n")
    expected = {
        path: content
        for path, content in served.repositories[PLAIN].items()
        if path not in ("pytorch_model.bin", "README.md")
    }
    record = read_record(folder)
    assert record is not None
    assert {path: (folder / path).read_bytes() for path in record.digests} == expected
    assert record.digests["model.safetensors"] == hashlib.sha256(expected["model.safetensors"]).hexdigest()
    (found,) = discover(tmp_path / "quantized-models")
    assert (found.name, found.problem) == ("plain", "")
    assert visible(tmp_path / "quantized-models") == ["plain"]
    before = len(served.got)
    assert "0 MB to fetch" in pull(PLAIN).stdout
    assert len(served.got) == before


@pytest.mark.parametrize("name", ["x", "smollm2_gguf"])
def test_a_name_that_is_not_on_the_hub_gets_a_line_that_can_be_typed(pull, served: Hub, name: str) -> None:
    said = pull(name, code=2).stderr
    assert f"error: unknown model '{name}'" in said or f"error: {name} has no hub id" in said
    assert "hint: give a hub id, <owner>/<name>: lqmf pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M" in said
    assert not served.got


def test_a_dry_run_says_what_it_takes_and_fetches_nothing(pull, served: Hub, tmp_path: Path) -> None:
    said = pull(PLAIN, "--dry-run").stdout
    size = sum(
        len(c) for p, c in served.repositories[PLAIN].items() if p not in ("pytorch_model.bin", "README.md")
    )
    assert f"{size / 1e6:.3g} MB to fetch" in said
    assert (visible(tmp_path / "quantized-models"), served.got) == ([], [])


def test_one_of_several_ggufs_is_named_and_another_comes_beside_it(pull, tmp_path: Path) -> None:
    refused = pull(GGUF, code=2)
    assert "owner/ggufs has 2 GGUF models" in refused.stderr
    assert "sub/tiny-Q8_0.gguf" in refused.stderr
    models = tmp_path / "quantized-models"
    assert "next: lqmf chat ggufs\n" in pull(f"https://huggingface.co/{GGUF}", "--file", "*q4_0*").stdout
    assert "next: lqmf chat ggufs--tiny-Q8_0\n" in pull(f"{GGUF}:Q8_0").stdout
    assert visible(models / "ggufs") == [".pulled.json", "tiny-Q4_0.gguf", "tiny-Q8_0.gguf"]


def test_what_is_no_model_to_run_leaves_nothing(pull, tmp_path: Path) -> None:
    models = tmp_path / "quantized-models"
    for hub_id, says in (
        ("owner/pickled", "only pickled weights"),
        ("owner/coded", "wants to run Python code"),
        ("owner/nobody", "the hub has no owner/nobody"),
    ):
        assert says in pull(hub_id, code=2).stderr
        assert visible(models) == []
    said = pull("owner/pickled", "--pickles").stdout
    assert "which does not run here" in said
    assert visible(models / "pickled") == [".pulled.json", "config.json", "pytorch_model.bin"]


def test_a_broken_connection_goes_on_where_it_broke(pull, served: Hub, tmp_path: Path) -> None:
    served.cut["model.safetensors"] = [1000, 500]
    pull(PLAIN)
    asked = [asked for file, asked in served.got if file == "model.safetensors"]
    assert asked == ["", "bytes=1000-", "bytes=1500-"]
    assert visible(tmp_path / "quantized-models") == ["plain"]


def test_a_hub_without_ranges_is_asked_from_the_beginning(pull, served: Hub) -> None:
    served.cut["model.safetensors"], served.ranges = [1000], False
    assert pull(PLAIN).stdout.endswith("next: lqmf chat plain\n")


def test_a_pull_that_failed_goes_on_with_the_next_one(pull, served: Hub, tmp_path: Path) -> None:
    models = tmp_path / "quantized-models"
    served.status["model.safetensors"] = 403
    assert "without a login" in pull(PLAIN, code=2).stderr
    assert visible(models) == [".pulling-plain"]
    assert discover(models) == []
    served.status.clear()
    served.got.clear()
    assert "of it is here)" in pull(PLAIN).stdout
    assert [file for file, _ in served.got] == ["model.safetensors"]


def test_a_damaged_file_is_refused_and_fetched_again(pull, served: Hub, tmp_path: Path) -> None:
    served.damaged.add("model.safetensors")
    assert "model.safetensors has arrived damaged" in pull(PLAIN, code=1).stderr
    assert visible(tmp_path / "quantized-models") == [".pulling-plain"]
    served.damaged.clear()
    pull(PLAIN)
    folder = tmp_path / "quantized-models" / "plain"
    assert (folder / "model.safetensors").read_bytes() == served.repositories[PLAIN]["model.safetensors"]


def test_a_folder_of_another_origin_is_left_alone(pull, served: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "quantized-models" / "plain"
    folder.mkdir(parents=True)
    (folder / "mine").write_text("mine")
    assert "was not fetched from the hub" in pull(PLAIN, code=2).stderr
    pull(PLAIN, "--output", "theirs")
    assert visible(tmp_path / "quantized-models") == ["plain", "theirs"]
    assert visible(folder) == ["mine"]


def test_a_newer_commit_replaces_an_older_one_only_if_told(pull, served: Hub, tmp_path: Path) -> None:
    pull(PLAIN)
    config = json.loads(served.repositories[PLAIN]["config.json"]) | {"bos_token_id": 7}
    served.repositories[PLAIN]["config.json"] = json.dumps(config).encode()
    assert "has another config.json" in pull(PLAIN, code=2).stderr
    served.got.clear()
    pull(PLAIN, "--overwrite")
    folder = tmp_path / "quantized-models" / "plain"
    assert json.loads((folder / "config.json").read_bytes())["bos_token_id"] == 7
    assert [file for file, _ in served.got] == ["config.json"]
    assert visible(tmp_path / "quantized-models") == ["plain"]


def test_a_disk_without_room_is_said_before(pull, tmp_path: Path, served: Hub) -> None:
    served.repositories["owner/huge"] = {"a.gguf": b"x"}
    listing = served.repositories["owner/huge"]
    listing["a.gguf"] = _Long(listing["a.gguf"])
    said = pull("owner/huge", code=1)
    assert "the disk has" in said.stderr
    assert "GB more" in said.stderr


class _Long(bytes):
    """Claims to be of an exabyte."""

    def __len__(self) -> int:
        return 10**18


def test_ctrl_c_keeps_what_has_arrived(served: Hub, tmp_path: Path) -> None:
    served.cut["model.safetensors"] = [1000] * 9  # each try gets a little, and the waits grow
    process = subprocess.Popen(
        [sys.executable, "-m", "lqmf_runner", "pull", PLAIN],
        cwd=tmp_path, env={**os.environ, **served.env}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    while sum(file == "model.safetensors" for file, _ in served.got) < 3:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "the same command goes on from there" in said
    parts = list((tmp_path / "quantized-models" / ".pulling-plain").glob("model.safetensors.*.part"))
    assert len(parts) == 1
    assert parts[0].stat().st_size >= 2000


def test_two_at_once_do_not_meet(pull, served: Hub, tmp_path: Path) -> None:
    import fcntl

    staging = tmp_path / "quantized-models" / ".pulling-plain"
    staging.mkdir(parents=True)
    with (staging / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is being fetched by another process" in pull(PLAIN, code=1).stderr


def test_a_hub_id_that_was_pulled_needs_no_hub(pull, run_program: Run, tmp_path: Path) -> None:
    pull(PLAIN)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = run_program("quantize", PLAIN, "bnb", "mode.bits=5", env=env)
    assert "the hub cannot be reached" not in done.stderr
