"""The tab Models."""

from __future__ import annotations

import asyncio
import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec

from lqmf_runner.engine.replicas.replica_set import ReplicaSet
from lqmf_runner.results.served import SERVED

from ...support.runs.versions import MemoryRegistry, in_memory, version
from ...support.screens.browser import visit
from ...support.server.served import SHARES, served


def paste(line: str, folder: Path) -> str:
    """What a shell says to a command line of the page, with this program as `lqmf`."""
    program = folder / "bin" / "lqmf"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lqmf_runner tracking=none "$@"\n')
    program.chmod(0o755)
    root = Path(__file__).resolve().parents[3]
    env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(root)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


async def test_a_model_is_loaded_pinned_and_unloaded(tmp_path: Path):
    async with visit(tmp_path) as seen:
        await seen.open_tab("Models")
        await seen.shows("models-name", "m")
        await seen.click("Load")
        await seen.shows("models-outcome", "m loaded in")
        await seen.says("ready", "#models-table")
        await seen.click("Pin")
        await seen.says("ready, pinned", "#models-table")
        pool = seen.server.state.pool
        assert [(model.name, model.pinned) for model in pool.models] == [("m", True)]
        await seen.click("Unpin")
        await seen.shows("models-outcome", "makes room")
        await seen.click("Unload")
        await seen.shows("models-outcome", "unloaded, 100 MB freed")
        assert not pool.models


async def test_a_key_without_the_role_is_told_so(tmp_path: Path):
    async with visit(tmp_path, keys="reader:use", key="reader") as seen:
        await seen.open_tab("Models")
        await seen.shows("models-name", "m")
        await seen.click("Load")
        await seen.says("may not load, unload")
        await seen.tab.reload()
        await seen.open_tab("Models")
        await seen.shows("models-name", "m")
        await seen.unfold("Replicas, and the nodes that they run on")
        await seen.click("Scale")
        await seen.says("may not load, unload")
        assert not seen.server.state.pool.models


async def test_a_version_is_promoted_and_rolled_back_without_a_restart(tmp_path: Path):
    memory = MemoryRegistry(version("m", 1, "champion"), version("m", 2, "candidate"))
    sizes = {"m": 100.0, "m@1": 100.0, "m@2": 100.0}
    async with visit(
        tmp_path,
        registry=in_memory(memory),
        sizes=sizes,
        shares={"m": {"m@1": 1}},
        keys="sesame",
        key="sesame",
    ) as seen:
        await seen.open_tab("Models")
        await seen.unfold("Versions: which weights answer a name")
        await seen.says("100% of m", "#versions-table")
        await seen.shows("versions-name", "m@2")
        await seen.click("Promote")
        await seen.shows("versions-outcome", "m is answered by m@2; before: m@1.")
        assert memory.on("m", "champion") == 2
        await seen.says("m@2", "#models-table")
        line = shlex.split(await seen.shows("versions-command", "curl"))
        assert line[:3] == ["curl", "-X", "POST"]
        assert line[-3:] == [
            f"http://127.0.0.1:{seen.server.port}/models/m/promote",
            "-d",
            '{"version": "2"}',
        ]
        assert "sesame" not in line
        await seen.click("Roll back")
        await seen.shows("versions-outcome", "m is answered by m@1; before: m@2.")
        assert memory.on("m", "champion") == 1
        assert await seen.shows("versions-command", "/rollback")


async def test_versions_that_share_a_name_are_judged_by_what_they_served(tmp_path: Path):
    folder = tmp_path / "2026-01-01" / "00-00-00-serve"
    folder.mkdir(parents=True)
    records = [*served(random.Random(1), "x@3", 200), *served(random.Random(2), "x@4", 200, gap_s=0.006)]
    (folder / SERVED).write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    memory = MemoryRegistry(version("x", 3, "champion"), version("x", 4, "candidate"))
    sizes = {"x": 100.0, "x@3": 100.0, "x@4": 100.0}
    async with visit(
        tmp_path, registry=in_memory(memory), sizes=sizes, shares={"x": SHARES}, run_dir=folder
    ) as seen:
        await seen.open_tab("Models")
        await seen.unfold("Versions: which weights answer a name")
        await seen.shows("models-name", "x")
        await seen.click("Judge by what was served")
        line = shlex.split(await seen.shows("served-command", "lqmf compare"))
        assert line == ["lqmf", "compare", "mode.served='x'", f"runs=[{folder}]"]
        await seen.says("run x@4: beside x@3,", "#served-verdict")
        said = await asyncio.to_thread(paste, await seen.shows("served-command", "lqmf compare"), tmp_path)
        assert "run x@4: beside x@3," in said
        await seen.says("Open the report", "#served-verdict")


async def test_a_name_that_one_version_answers_is_not_judged(tmp_path: Path):
    async with visit(tmp_path) as seen:
        await seen.open_tab("Models")
        await seen.unfold("Versions: which weights answer a name")
        await seen.shows("models-name", "m")
        await seen.click("Judge by what was served")
        await seen.says("the requests for m are not split between versions")


async def test_a_model_is_scaled_and_its_replicas_and_nodes_are_shown(tmp_path: Path):
    async with visit(tmp_path) as seen:
        await seen.open_tab("Models")
        await seen.unfold("Replicas, and the nodes that they run on")
        await seen.says("Every loaded model is one engine", "#replicas-nodes")
        await seen.shows("models-name", "m")
        await seen.tab.locator("#replicas-count input").fill("3")
        await seen.click("Scale")
        await seen.shows("replicas-outcome", "m has 3 replicas, 3 of them ready.")
        await seen.says("3 of 3 ready", "#replicas-nodes")
        await seen.says("this machine", "#replicas-nodes")
        await seen.says("ready, 3 replicas", "#models-table")
        assert (await seen.shows("replicas-command", "curl")).endswith(
            "/models/m/scale -d '{\"replicas\": 3}'"
        )
        (model,) = seen.server.state.pool.models
        replicas = model.engine
        assert isinstance(replicas, ReplicaSet)
        await seen.server.state.pool.scale("m", 1)  # by somebody else
        await seen.says("1 of 1 ready", "#replicas-nodes")
