"""The image's command starts a server with the image's environment; the other files say what the program takes."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lqmf_runner.server.guards.hosts import HostPolicy
from lqmf_runner.server.guards.keys import parse_keys
from lqmf_runner.server.process.draining import _GRACE_S

from ..conftest import Compose
from ..support.server.processes import Program

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")


def stage(name: str) -> str:
    return re.split(r"^FROM ", DOCKERFILE.split(f" AS {name}\n")[1], flags=re.MULTILINE)[0]


def variables(name: str) -> dict[str, str]:
    """What a stage puts into the environment."""
    words = shlex.split(re.findall(r"^ENV (.*)$", stage(name), re.MULTILINE)[-1])
    return dict(word.split("=", 1) for word in words)


def server_of(file: str) -> dict[str, Any]:
    deployment = yaml.safe_load((DEPLOY / "kubernetes" / file).read_text())
    return dict(deployment["spec"]["template"]["spec"]["containers"][0])


def test_every_variant_has_its_stages_and_the_image_has_no_compiler() -> None:
    for variant in ("cpu", "cuda"):
        assert "-DGGML_NATIVE=OFF" in variables(f"{variant}-build-base")["LLAMA_FLAGS"]
        assert f" AS {variant}-base\n" in DOCKERFILE
    assert re.findall(r"^ARG VARIANT=(\w+)$", DOCKERFILE, re.MULTILINE) == ["cpu"]
    assert "g++" in stage("build")
    assert "g++" not in stage("run")
    assert "USER 10001:10001" in stage("run")


def test_the_command_serves_with_keys_and_not_without(tmp_path: Path) -> None:
    command = json.loads(re.findall(r"^CMD (\[.*\])$", stage("run"), re.MULTILINE)[-1])
    program = Program(tmp_path)
    program.env |= {
        k: v for k, v in variables("run").items() if k not in ("PATH", "HOME", "LQMF_RUNTIME_DIR")
    }
    program.env["LQMF_MODELS"] = str(tmp_path / "quantized-models")
    assert command[:2] == ["mode=serve", "model=null"]
    refused = program.run(*command, "server.port=0")
    assert refused.returncode == 2
    assert "LQMF_API_KEYS" in refused.stderr
    key = secrets.token_hex(16)
    with program.serve(*command[2:], model=("model=null",), LQMF_API_KEYS=key) as server:
        assert health_check(server.url.rpartition(":")[2]) == 0
        assert health_check("1") == 1
        assert server.client.get("/ready").json() == {"status": "ready", "models": {}}
        assert server.client.get("/metrics").status_code == 401
        server.client.headers["Authorization"] = f"Bearer {key}"
        assert server.chat().status_code == 200


def health_check(port: str) -> int:
    command = [sys.executable, str(DEPLOY / "healthcheck.py")]
    return subprocess.run(command, env={"LQMF_PORT": port}, stderr=subprocess.DEVNULL, timeout=60).returncode


def test_compose_starts_the_server_with_settings_that_it_takes(compose_config: Compose) -> None:
    services = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]
    server = services["server"]
    words = [_with_defaults(word) for word in server["command"]]
    assert words[:2] == ["mode=serve", "model=null"]
    config = compose_config("mode=serve", *words[2:]).server
    assert config.host == "0.0.0.0"
    (target,) = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())["scrape_configs"]
    for host in (*target["static_configs"][0]["targets"], "127.0.0.1:8000", "localhost:9000"):
        assert HostPolicy(config.host, config.allowed_hosts).permits(host)
    assert int(server["stop_grace_period"].removesuffix("s")) > config.drain_timeout_s + _GRACE_S
    keys = server["environment"]["LQMF_API_KEYS"]
    given = parse_keys(re.sub(r"\$\{(\w+):\?[^}]*\}", r"\1", keys))
    assert [key.admin for key in given] == [True, False]


def test_every_variable_of_compose_is_in_the_example() -> None:
    text = (DEPLOY / "compose/compose.yaml").read_text()
    example = (DEPLOY / "compose/.env.example").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert needed == {line.partition("=")[0] for line in example.splitlines() if re.match(r"\w+=", line)}


def test_kubernetes_starts_the_server_with_settings_that_it_takes(compose_config: Compose) -> None:
    server = server_of("base/deployment.yaml")
    values = {"POD_NAMESPACE": "here", "MODELS_MB": "3000"}
    words = [re.sub(r"\$\((\w+)\)", lambda m: values[m.group(1)], word) for word in server["args"]]
    config = compose_config(*words).server
    assert config.max_memory_mb == 3000
    policy = HostPolicy(config.host, config.allowed_hosts)
    for host in ("lqmf:8000", "lqmf.here.svc:8000", "lqmf.here.svc.cluster.local", "10.1.2.3:8000"):
        assert policy.permits(host)
    assert not policy.permits("lqmf.elsewhere:8000")


def test_a_pod_has_time_to_drain(compose_config: Compose) -> None:
    pod = yaml.safe_load((DEPLOY / "kubernetes/base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    server = pod["containers"][0]
    drain = next(word for word in server["args"] if word.startswith("server.drain_timeout_s="))
    seconds = float(server["lifecycle"]["preStop"]["exec"]["command"][1]) + _GRACE_S
    assert pod["terminationGracePeriodSeconds"] > seconds + float(drain.partition("=")[2])
    readiness = server["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < 10, (
        "out of the Service before the drain"
    )


@pytest.mark.parametrize("overlay", ["gpu", "tracking"])
def test_overlays_change_what_is_there(overlay: str) -> None:
    folder = DEPLOY / "kubernetes/overlays" / overlay
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for name in (*wanted["resources"], *(patch["path"] for patch in wanted["patches"])):
        assert (folder / name).exists()
    base = {
        (part["kind"], part["metadata"]["name"])
        for file in (DEPLOY / "kubernetes/base").glob("*.yaml")
        if "metadata" in (part := yaml.safe_load(file.read_text()))
    }
    for patch in wanted["patches"]:
        changed = yaml.safe_load((folder / patch["path"]).read_text())
        assert (changed["kind"], changed["metadata"]["name"]) in base
        names = {c["name"] for c in changed["spec"]["template"]["spec"]["containers"]}
        assert names == {"server"}


def _with_defaults(word: str) -> str:
    """A word of compose as it is when no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word)
