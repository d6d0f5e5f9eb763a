"""What a user of a server with `placement=ray` is told when a model cannot run on the nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from ...support.models.tiny import make_checkpoint, make_gguf
from ...support.ray_nodes import RayNodes
from ...support.server.processes import MODEL, SECOND, Program, Server

THIRD, FOURTH, HIDDEN, SLOW = "third", "fourth", "hidden", "slow"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """With models that the nodes have, and some under a path that is another one there: /proc/self/cwd."""
    made = Program(tmp_path_factory.mktemp("placed"))
    for number, name in enumerate((THIRD, FOURTH, SECOND)):
        folder = made.folder / "quantized-models" / name
        folder.mkdir(exist_ok=True)
        make_gguf(folder / "model.gguf", seed=number + 1)  # other weights than the first has
    (made.folder / "hidden" / HIDDEN).mkdir(parents=True)
    make_gguf(made.folder / "hidden" / HIDDEN / "model.gguf", seed=9)
    make_checkpoint(made.folder / "quantized-models" / SLOW)
    return made


def serve(program: Program, cluster: RayNodes, *settings: str) -> Any:
    return program.serve("placement=ray", f"ray.address={cluster.address}", *settings, **cluster.env)


def load(server: Server, name: str, **body: Any) -> httpx.Response:
    return server.client.post(f"/models/{name}/load", json=body)


def test_an_idle_model_makes_room_on_its_node_and_without_one_it_is_507_with_their_numbers(
    program: Program, cluster: RayNodes
) -> None:
    """The three nodes have room for one worker each."""
    with serve(program, cluster, "placement.memory_mb=3000", "server.max_memory_mb=100") as server:
        for name in (MODEL, SECOND, THIRD):
            answer = load(server, name, pin=True)
            assert answer.status_code == 200, answer.text
        answer = load(server, FOURTH)
        assert answer.status_code == 507
        assert f"'{FOURTH}' needs 1 core and 3000 MB, and no node has that free" in answer.json()["detail"]
        for node in ("n1", "n2", "n3"):
            assert f"{node} (1 of 2 cores, 1000 of 4000 MB free)" in answer.json()["detail"]
        more = server.client.post(f"/models/{MODEL}/scale", json={"replicas": 2})
        assert more.status_code == 507
        assert "no node has that free: " in more.json()["detail"]
        assert server.chat(MODEL).status_code == 200
        load(server, SECOND, pin=False)
        assert load(server, FOURTH).status_code == 200
        loaded = {model["name"]: model["state"] for model in server.client.get("/models").json()["models"]}
        assert loaded == {MODEL: "ready", THIRD: "ready", FOURTH: "ready"}


def test_files_that_a_node_lacks_are_404_where_they_must_be_there(
    program: Program, cluster: RayNodes
) -> None:
    folders = "models_dir=[quantized-models,/proc/self/cwd/hidden]"
    with serve(program, cluster, folders, "placement.files=path") as server:
        answer = load(server, HIDDEN)
        assert answer.status_code == 404
        assert f"does not have the files of '{HIDDEN}'" in answer.json()["detail"]
        assert "/" not in answer.json()["detail"]
        assert server.chat(MODEL).status_code == 200
        server.process.terminate()
        _, stderr = server.process.communicate(timeout=60)
        assert server.process.returncode == 0
        assert "SIGTERM received" not in stderr  # Ray's


def test_a_node_that_leaves_while_a_model_loads_is_503_and_then_507(
    program: Program, cluster: RayNodes
) -> None:
    cluster.add("going", 2, "zone=going")
    with serve(program, cluster, 'placement.labels=["zone=going"]', "placement.num_cpus=0.5") as server:
        answers: list[httpx.Response] = []
        loading = threading.Thread(target=lambda: answers.append(load(server, SLOW)))
        known = set(workers())
        loading.start()
        while not set(workers()) - known:
            pass
        cluster.remove("going")
        loading.join(60)
        assert answers[0].status_code == 503, answers[0].text
        assert "node going" in answers[0].json()["detail"]
        while (answer := load(server, SECOND)).status_code == 503:  # until Ray knows that the node is gone
            pass
        assert answer.status_code == 507
        assert "no node with zone=going has that free" in answer.json()["detail"]
        assert server.client.get("/health").status_code == 200


def workers() -> Iterator[int]:
    """All workers of this program on this machine."""
    for process in psutil.process_iter(["cmdline"]):
        if "lqmf_runner.engine.worker" in (process.info["cmdline"] or ()):
            yield process.pid
