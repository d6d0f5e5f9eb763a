"""What importing the program's own modules brings in, and that no modules or packages import each other in a circle.

`lint-imports` checks the order of the layers. Here every import counts as well: in functions, and for types only.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "lqmf_runner"
HEAVY = ("torch", "transformers", "llama_cpp", "mlflow")
WORKER = f"{PACKAGE}.engine.worker"

# Imports each module of the list and prints it with whatever of HEAVY came with it.
IMPORT_EACH = """
import sys, importlib
heavy, modules = sys.argv[1].split(","), sys.argv[2:]
for module in modules:
    importlib.import_module(module)
    for name in set(heavy) & set(sys.modules):
        print(module, name)
        heavy.remove(name)
"""

Graph = Mapping[str, set[str]]


def all_modules() -> dict[str, Path]:
    """Every module of the program and its file; a package is its `__init__`."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = all_modules()
FRONT = [name for name in MODULES if not name.startswith(WORKER) and not name.endswith("__main__")]
PACKAGES = [name for name, path in MODULES.items() if path.name == "__init__.py"]


def imported(module: str, source: str, *, is_package: bool) -> Iterator[str]:
    """The full names that a module's import statements mention, wherever they stand."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *(node.module.split(".") if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def module_graph(sources: Mapping[str, tuple[str, bool]]) -> Graph:
    """Which module imports which. `sources` has the text of each, and whether it is a package."""
    graph: dict[str, set[str]] = {}
    for module, (source, is_package) in sources.items():
        names = imported(module, source, is_package=is_package)
        # What is no module is a name in one.
        targets = (name if name in sources else name.rpartition(".")[0] for name in names)
        graph[module] = {target for target in targets if target in sources and target != module}
    return graph


def sibling_graph(modules: Graph, package: str) -> Graph:
    """Which child of a package imports which; all that lies in a child counts as the child's."""
    graph: dict[str, set[str]] = defaultdict(set)
    for module, targets in modules.items():
        for target in targets:
            if module.startswith(f"{package}.") and target.startswith(f"{package}."):
                child, other = (
                    name.removeprefix(f"{package}.").partition(".")[0] for name in (module, target)
                )
                if child != other:
                    graph[child].add(other)
    return graph


def cycle(graph: Graph) -> list[str]:
    """One circle of imports, its first name repeated at the end; empty where there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph.get(name, ())):
            if circle := visit(target, [*path, name]):
                return circle
        done.add(name)
        return []

    return next((circle for name in sorted(graph) if (circle := visit(name, []))), [])


@pytest.fixture(scope="module")
def graph() -> Graph:
    return module_graph(
        {name: (path.read_text(), path.name == "__init__.py") for name, path in MODULES.items()}
    )


def heavy_imports(*modules: str) -> str:
    """What of HEAVY importing these modules in a fresh process brings in, a line each; empty for none."""
    command = [sys.executable, "-c", IMPORT_EACH, ",".join(HEAVY), *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "engine",
        "engine.local",
        "engine.remote",
        "engine.on_demand",
        "engine.sandbox.template_process",
        "decisions.api",
        "decisions.sets",
        "server.launch",
        "server.app",
        "console.chat",
        "runs.benchmark",
        "modes",
        "app.cli",
        "app.hydra",
    ],
)
def test_the_front_starts_without_the_engines_and_mlflow(module: str) -> None:
    assert heavy_imports(f"{PACKAGE}.{module}") == ""


def test_only_the_worker_loads_an_engine_when_it_is_imported() -> None:
    assert {f"{PACKAGE}.modes.server.serve", f"{PACKAGE}.tracking.mlflow_store"} < set(FRONT)
    assert heavy_imports(*FRONT) == ""


def test_a_module_that_loads_an_engine_is_seen() -> None:
    assert find_spec("llama_cpp") is not None
    module = f"{WORKER}.runners.llama_cpp"
    assert heavy_imports(f"{PACKAGE}.types", module) == f"{module} llama_cpp\n"


def test_no_modules_import_each_other_in_a_circle(graph: Graph) -> None:
    assert len(graph) > 200
    assert graph[f"{PACKAGE}.__main__"] == {f"{PACKAGE}.app.cli", f"{PACKAGE}.install"}
    assert cycle(graph) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_packages_import_each_other_in_a_circle(graph: Graph, package: str) -> None:
    assert cycle(sibling_graph(graph, package)) == []


def test_imports_in_functions_and_for_types_count() -> None:
    graph = module_graph(
        {
            "p": ("from .a import x", True),
            "p.a": ("from __future__ import annotations\nfrom typing import TYPE_CHECKING\nfrom .b import c", False),
            "p.b": ("", True),
            "p.b.c": ("if TYPE_CHECKING:\n    from ..d import Name", False),
            "p.d": ("def f():\n    import p.e.f", False),
            "p.e": ("", True),
            "p.e.f": ("from p import a", False),
        }
    )  # fmt: skip
    assert graph["p.a"] == {"p.b.c"}
    assert cycle(graph) == ["p.a", "p.b.c", "p.d", "p.e.f", "p.a"]
    assert cycle(sibling_graph(graph, "p")) == ["a", "b", "d", "e", "a"]
    assert cycle(sibling_graph(graph, "p.b")) == []
