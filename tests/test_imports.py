"""Who may import whom, and what reading a plan and its results must not import."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adcore.bench import Bench

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "timm", "numba", "skimage", "sklearn", "scipy", "matplotlib", "great_expectations"}
ORCHESTRATION = {"prefect", "mlflow", "dvc"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path, top: bool = False) -> Iterator[str]:
    """Full names of what a file imports: anywhere, or when it is itself imported (not for type checkers only)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = path.relative_to(ROOT).parent.parts
    for node in _run_at_import(tree) if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run_at_import(child)


def breaches(package: str, forbidden: set[str], top: bool = False) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path, top)
        if any(name == f or name.startswith(f + ".") for f in forbidden)
    ]


def test_the_reader_of_imports_sees_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "p").mkdir()
    path = tmp_path / "p" / "m.py"
    path.write_text("import a.b\nfrom c import d\nfrom . import e\nfrom .f import g\ndef h():\n    import i\n")
    assert set(imported(path)) == {"a.b", "c.d", "p.e", "p.f.g", "i"}
    assert set(imported(path, top=True)) == {"a.b", "c.d", "p.e", "p.f.g"}


def test_imports_go_from_flows_to_tasks_to_adcore() -> None:
    assert len(sources("adcore")) > 40
    assert not breaches("adcore", {"tasks", "flows", "tests", "benchmarks"} | ORCHESTRATION)
    assert not breaches("tasks", {"flows", "tests", "benchmarks"})
    assert not breaches("flows", {"tests", "benchmarks"})


@pytest.mark.parametrize(
    ("package", "above"),
    [("adcore/results", {"adcore.papers", "adcore.report"}), ("adcore/papers", {"adcore.report"})],
)
def test_results_and_printed_numbers_are_data_that_know_no_page(package: str, above: set[str]) -> None:
    assert len(sources(package)) > 4
    assert not breaches(package, above)


@pytest.mark.parametrize(("package", "below"), [("adcore/metrics", "adcore.core.columns"), ("adcore/kernels", "")])
def test_metrics_and_kernels_use_nothing_else_of_ours(package: str, below: str) -> None:
    """A metric says how its column is shown."""
    own = package.replace("/", ".")
    names = {name for path in sources(package) for name in imported(path) if name.split(".")[0] == "adcore"}
    assert all(name == own or name.startswith((own + ".", below or own + ".")) for name in names), names


def test_methods_know_no_files_and_no_bookkeeping() -> None:
    allowed: tuple[str, ...] = ("adcore.methods", "adcore.kernels", "adcore.modules", "adcore.enhancers")
    allowed += ("adcore.core.contracts",)
    allowed += ("adcore.maps", "adcore.training", "adcore.prefetch", "adcore.plan", "adcore.synthesis")
    allowed += ("adcore.devices", "adcore.held", "adcore.selection", "adcore.backbones")
    names = {name for path in sources("adcore/methods") for name in imported(path) if name.startswith("adcore.")}
    assert all(name.startswith(allowed) for name in names), names


def test_only_tracking_imports_mlflow() -> None:
    users = {line.split(" ")[0] for package in ("tasks", "flows") for line in breaches(package, {"mlflow"})}
    assert users <= {"tasks/tracking.py"}


@pytest.mark.parametrize(
    "package",
    ["adcore/methods", "adcore/enhancers", "adcore/datasets", "adcore/metrics", "adcore/columns", "adcore/core"],
)
def test_plug_ins_are_light_to_import(package: str) -> None:
    assert not breaches(package, HEAVY | {"elpv_dataset"}, top=True)


def python(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_adcore_is_whole_without_prefect_mlflow_and_dvc() -> None:
    """Every module of adcore is imported in a process where those cannot be."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in sources("adcore")
    ]
    assert all(importlib.util.find_spec(name) for name in ORCHESTRATION)  # else nothing is shown
    script = f"""
import importlib, json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ORCHESTRATION!r}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(len(sys.modules))
"""
    assert int(python(script, json.dumps(modules))) > len(modules)


def test_reading_a_plan_and_what_is_there_imports_nothing_heavy(prepared: Bench, tmp_path: Path) -> None:
    """What a run does that finds everything cached."""
    assert prepared.cells  # validates, once, with Great Expectations
    plan = tmp_path / "plan.yaml"
    plan.write_text(prepared.plan.model_dump_json(), encoding="utf-8")
    script = """
import json, sys
from pathlib import Path
from adcore.bench import Bench, Layout, read
from adcore.plan import load
from adcore.missing import missing
from adcore.results.finished import read as read_cells

plan, workspace = load(Path(sys.argv[1])), Path(sys.argv[2])
layout = Layout(workspace)
bench = Bench(plan, workspace, {spec.name: read(spec, layout) for spec in plan.datasets})
todo = [missing(bench.store, cell) for cell in bench.cells]
read_cells(bench, bench.store, plan.metrics), bench.failures, bench.levels, bench.notes()
[*map(bench.leaks, bench.manifests)]
print(json.dumps([[cell.key for cell in bench.cells], sorted({name.split(".")[0] for name in sys.modules})]))
"""
    found, modules = json.loads(python(script, str(plan), str(prepared.layout.workspace)))
    assert found == [cell.key for cell in prepared.cells] and len(found) == 4
    assert not set(modules) & (HEAVY | ORCHESTRATION)
