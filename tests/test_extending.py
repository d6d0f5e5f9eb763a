"""A copy of the program is extended as docs/architecture/extending.md describes.

A format, a mode, a metric with a bound and a route are added, each by one file and one line. Nothing else is touched.
Each must then be listed, composed, checked, run, reported and documented.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .support.models.tiny import make_checkpoint
from .support.server.processes import Server

ROOT = Path(__file__).resolve().parents[1]
Grown = Callable[..., subprocess.CompletedProcess[str]]

# One file for each part, as the document describes it.
FILES = {
    # A checkpoint whose weights are stored as plain ones under a name of its own.
    "lqmf_runner/formats/sixth.py": '''
"""Sixth: plain weights under another name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .base import Format, Recognised
from .transformers import TransformersBackend


@dataclass(frozen=True)
class SixthBackend(TransformersBackend):
    """Settings of the sixth format."""

    format: str = "sixth"
    softness: int = 6


def recognise(quantization: Mapping[str, Any] | None) -> Recognised | None:
    """Recognise it by name."""
    return Recognised("SIX", 16.0) if (quantization or {}).get("quant_method") == "sixth" else None


SIXTH = Format(
    "sixth",
    "Sixth",
    SixthBackend,
    runner="lqmf_runner.engine.worker.runners.sixth:SixthRunner",
    recognise=recognise,
    extra="sixth",
)
''',
    "lqmf_runner/engine/worker/runners/sixth.py": '''
"""Runs the sixth format: without its label it is a plain checkpoint."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import msgspec

from ....types import ModelSpec
from .base import Progress
from .transformers import TransformersRunner


class SixthRunner(TransformersRunner):
    """Loads a copy without the label."""

    @classmethod
    def load(cls, spec: ModelSpec, progress: Progress, reserved: int = 0) -> TransformersRunner:
        with tempfile.TemporaryDirectory() as place:
            plain = Path(shutil.copytree(spec.path, Path(place) / "plain"))
            config = json.loads((plain / "config.json").read_text())
            del config["quantization_config"]
            (plain / "config.json").write_text(json.dumps(config))
            runner = super().load(msgspec.structs.replace(spec, path=str(plain), format="transformers"), progress)
        runner.info = msgspec.structs.replace(runner.info, format="sixth", method="SIX")
        return runner
''',
    "conf/model/six.yaml": "defaults:\n  - model_schema\n  - override /backend@_global_.backend: sixth\n\nname: six\n",
    "conf/backend/sixth.yaml": "defaults:\n  - sixth_schema\n\nformat: sixth\nsoftness: 6\n",
    "lqmf_runner/modes/terminal/greet.py": '''
"""mode=greet: say hello."""

from __future__ import annotations

from dataclasses import dataclass

from ...config import ModeConfig
from ...runs.context import RunContext
from ..base import Mode


@dataclass(frozen=True)
class GreetMode(ModeConfig):
    """Whom to greet."""

    name: str = "greet"
    whom: str = "world"


def run(context: RunContext) -> int:
    """Say hello."""
    mode = context.config.mode
    assert isinstance(mode, GreetMode)
    print(f"hello {mode.whom}")
    return 0


MODE = Mode(GreetMode, "say hello", "mode=greet mode.whom=Alice", run, needs_model=False, leaves_folder=False)
''',
    "conf/mode/greet.yaml": "defaults:\n  - greet_schema\n\nname: greet\nwhom: world\n",
    "lqmf_runner/server/routes/shout.py": '''
"""`POST /v1/shout`."""

from __future__ import annotations

import msgspec

from ..route import OPENAI, Body, route


class Shout(msgspec.Struct):
    """A text."""

    text: str


class Shouted(msgspec.Struct):
    """The text in capitals."""

    loud: str


@route("POST", "/v1/shout", tag="Voices", errors=OPENAI, body=Body(Shout, {"A word": {"text": "hi"}}))
async def shout(data: Shout) -> Shouted:
    """The text in capitals."""
    return Shouted(data.text.upper())
''',
}
# One line for each part: (file, what stands there, what takes its place).
LINES = (
    (
        "lqmf_runner/formats/__init__.py",
        "from .transformers import TRANSFORMERS",
        "from .sixth import SIXTH\nfrom .transformers import TRANSFORMERS",
    ),
    ("lqmf_runner/formats/__init__.py", "VLLM, SGLANG)", "VLLM, SGLANG, SIXTH)"),
    ("lqmf_runner/modes/__init__.py", "import chat, console", "import chat, console, greet"),
    ("lqmf_runner/modes/__init__.py", "        keys.MODE,", "        keys.MODE,\n        greet.MODE,"),
    (
        "lqmf_runner/server/routes/__init__.py",
        "    tokens,\n    versions,",
        "    tokens,\n    shout,\n    versions,",
    ),
    (
        "lqmf_runner/server/routes/__init__.py",
        "    tokens.tokenize,",
        "    tokens.tokenize,\n    shout.shout,",
    ),
    (
        "lqmf_runner/results/metrics.py",
        "METRICS: dict[str, Metric] = {\n    metric.key: metric\n    for metric in (\n",
        "METRICS: dict[str, Metric] = {\n    metric.key: metric\n    for metric in (\n"
        '        Metric("e2e_s", "e2e_s.p99", "E2E p99", "{:.3f} s", of_load=True, limits=ANY, column=True),\n',
    ),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with all four parts added, a model of the sixth format, and a plain one."""
    tree = tmp_path_factory.mktemp("grown")
    for name in ("lqmf_runner", "conf"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        (tree / name).write_text(text.lstrip("\n"))
    for name, old, line in LINES:
        text = (tree / name).read_text()
        assert text.count(old) == 1, f"{old!r} in {name}"
        (tree / name).write_text(text.replace(old, line))
    make_checkpoint(tree / "quantized-models" / "plain")
    folder = make_checkpoint(tree / "quantized-models" / "six")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "sixth"}})
    )
    return tree


@pytest.fixture(scope="module")
def grown(tree: Path) -> Grown:
    """Runs the grown program."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lqmf_runner", *args],
            cwd=tree, env=environment(tree), capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return run


def environment(tree: Path) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LQMF_", "HYDRA_"))}
    return clean | {"PYTHONPATH": str(tree), "COLUMNS": "200", "LQMF_RUNTIME_DIR": str(tree / "records")}


def test_all_are_listed(grown: Grown) -> None:
    shown = grown("--help").stdout
    assert "say hello" in shown
    assert "mode=greet mode.whom=Alice" in shown
    assert "sixth" in shown
    listed = json.loads(grown("mode=models", "mode.format=json").stdout)["models"]
    (six,) = [model for model in listed if model["name"] == "six"]
    assert (six["format"], six["method"], six["problem"]) == ("sixth", "SIX", "")


def test_all_are_composed_and_checked(grown: Grown) -> None:
    composed = grown("mode=greet", "backend=sixth", "verdict.max_e2e_s=2", "--cfg", "job").stdout
    assert "whom: world" in composed
    assert "softness: 6" in composed
    assert "max_e2e_s: 2" in composed
    for words, message in (
        (["mode=greet", "mode.who=me"], "did you mean whom?"),
        (["mode=models", "backend=sixth", "backend.softnes=1"], "did you mean softness?"),
        (["mode=greet", "verdict.max_e2e_s=-1"], "verdict.max_e2e_s"),
    ):
        refused = grown(*words)
        assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr


def test_the_mode_runs(grown: Grown) -> None:
    done = grown("mode=greet", "mode.whom=Bob")
    assert (done.returncode, done.stdout) == (0, "hello Bob\n"), done.stderr


def test_format_and_metric_are_run_and_reported(grown: Grown, tree: Path) -> None:
    done = grown(
        "mode=compare", "models=[six,plain]", "verdict.max_e2e_s=0.000001", "mode.concurrency=[1]",
        "mode.requests=2", "mode.warmup=0", "mode.sampling.max_tokens=4", "tracking=none",
        "backend.n_threads=1", "hydra.run.dir=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tree / "run" / "results.json").read_text())
    model, other = results["models"]
    assert (other["name"], other["error"]) == ("plain", None)
    assert (model["format"], model["method"], model["error"]) == ("sixth", "SIX", None)
    assert results["verdict"]["constraints"] == {"max_e2e_s": 1e-06}
    assert results["verdict"]["winner"] is None
    report = (tree / "run" / "report.md").read_text()
    assert "SIX" in report
    assert "E2E p99" in report
    assert "E2E p99" in done.stdout


def test_the_route_is_served_and_documented(tree: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "lqmf_runner",
        "mode=serve",
        "model=null",
        "server.port=0",
        "tracking=none",
    ]
    process = subprocess.Popen(
        command, cwd=tree, env=environment(tree), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        client = Server(process, process.stdout.readline()).client
        assert client.post("/v1/shout", json={"text": "hi"}).json() == {"loud": "HI"}
        assert set(client.post("/v1/shout", json={"text": 5}).json()) == {"error"}
        described = client.get("/openapi.json").json()["paths"]["/v1/shout"]["post"]
        examples = described["requestBody"]["content"]["application/json"]["examples"]
        assert examples == {"A word": {"value": {"text": "hi"}}}
        assert "OpenAIError" in json.dumps(described["responses"]["default"])
        assert 'data-path="/v1/shout"' in client.get("/docs").text
    finally:
        process.kill()
        process.communicate()
