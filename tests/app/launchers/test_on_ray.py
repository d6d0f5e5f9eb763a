"""Sweeps on a real Ray cluster of several nodes on loopback."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lqmf_runner.results.files import read_results
from tests.app.launchers.conftest import Gate, Start
from tests.support.ray_nodes import RayNodes

WAIT_S = 120


def on(nodes: RayNodes, *settings: str) -> list[str]:
    return ["hydra/launcher=lqmf_ray", f"ray.address={nodes.address}", *settings]


def the_sweep(root: Path) -> Path:
    (folder,) = (root / "outputs").glob("*/*")
    return folder


def test_jobs_run_on_nodes_with_their_own_cores_and_go_to_mlflow_under_one_parent(
    start: Start, ray_nodes: RayNodes, tmp_path: Path
) -> None:
    """A job that fails is reported, and the rest is done."""
    sweep = start("model=a,c,b", *on(ray_nodes, "hydra.launcher.labels=['zone=left']"), env=ray_nodes.env)
    out, err = sweep.communicate(timeout=WAIT_S)
    assert sweep.returncode == 1, err
    assert "3 jobs with 1 cores each on" in err
    assert "error: job 1 (model=c): cannot reach http://127.0.0.1:9/v1" in err
    assert "Verdict: " in out

    folder = the_sweep(tmp_path)
    runs = {job: read_results(folder / job).run for job in "012"}
    assert [runs[job].status for job in "012"] == ["complete", "partial", "complete"]
    words = "mode=benchmark 'mode.concurrency=[1]' mode.requests=2 mode.warmup=0 model=a"
    words += f" ray.address={ray_nodes.address} --config-dir own"
    assert runs["0"].command == f"python -m lqmf_runner {words}"  # of the job alone, and anywhere
    assert read_results(folder / "0").system.cores == 1

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    (experiment,) = [found for found in client.search_experiments() if found.name == "lqmf"]
    sent = client.search_runs([experiment.experiment_id])
    top = read_results(folder).run.mlflow_run_id
    assert sorted(run.data.tags.get("mlflow.parentRunId", "") for run in sent) == ["", top, top, top]


def test_the_job_of_a_lost_node_is_run_again_elsewhere(
    start: Start, ray_nodes: RayNodes, gate: Gate, tmp_path: Path
) -> None:
    gate.open.clear()
    ray_nodes.add("doomed", 1, "zone=third")
    labels = "hydra.launcher.labels=['zone=third']"
    sweep = start("tracking=none", "model=a,b", *on(ray_nodes, labels), env=ray_nodes.env)
    assert gate.asked.wait(WAIT_S)
    ray_nodes.add("spare", 1, "zone=third")
    ray_nodes.remove("doomed")
    gate.open.set()
    _, err = sweep.communicate(timeout=WAIT_S)
    assert sweep.returncode == 0, err
    assert "was lost with its node or process; it is run again" in err
    assert read_results(the_sweep(tmp_path)).run.status == "complete"


def test_jobs_that_fit_nowhere_are_refused_with_what_there_is(
    start: Start, ray_nodes: RayNodes, tmp_path: Path
) -> None:
    sweep = start(
        "tracking=none", "model=a,b", *on(ray_nodes, "hydra.launcher.num_cpus=64"), env=ray_nodes.env
    )
    _, err = sweep.communicate(timeout=WAIT_S)
    assert sweep.returncode == 2
    assert "no node of the cluster has what a job needs" in err
    assert "left (1 cores, 4000 MB, zone=left)" in err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("setting", "said", "exit_code"),
    [
        ("ray.address=127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9", 1),
        ("hydra.launcher.labels=[zone]", "'zone' is not name=value", 2),
        ("hydra.launcher.num_cpus=0", "hydra.launcher.num_cpus=0 is below 1", 2),
    ],
)
def test_a_wrong_setting_is_one_line_soon(
    start: Start, tmp_path: Path, setting: str, said: str, exit_code: int
) -> None:
    began = time.monotonic()
    sweep = start("tracking=none", "model=a,b", "hydra/launcher=lqmf_ray", setting)
    _, err = sweep.communicate(timeout=WAIT_S)
    assert sweep.returncode == exit_code, err
    assert said in err
    assert time.monotonic() - began < 30
    assert not (tmp_path / "outputs").exists()


def test_without_an_address_a_cluster_is_started_for_the_sweep(start: Start, tmp_path: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'lqmf-runner[ray]'")
    sweep = start("tracking=none", "model=a,b", "hydra/launcher=lqmf_ray", "hydra.launcher.num_cpus=1")
    _, err = sweep.communicate(timeout=WAIT_S)
    assert sweep.returncode == 0, err
    assert "2 jobs with 1 cores each on 127.0.0.1" in err
    assert read_results(the_sweep(tmp_path)).run.status == "complete"
