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

from adcore.engine.bench import Bench

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


FLOORS = (
    *("core", "kernels", "metrics", "columns", "protocols", "vision", "features"),
    *("datasets", "enhancers", "methods", "engine", "results", "papers", "report", "line"),
)  # the rooms of adcore: each imports from those before it alone
TOP = {"__init__", "api"}  # of no room: the door


def room(module: str) -> str:
    """Of `adcore.ROOM.…`."""
    return module.split(".")[1] if module.startswith("adcore.") else ""


def arrows(package: str = "adcore") -> set[tuple[str, str]]:
    """Which room imports from which, also for type checkers alone and inside functions; "" is the door."""
    found = set()
    for path in sources(package):
        parts = path.relative_to(ROOT).with_suffix("").parts
        own = parts[1] if len(parts) > 2 else ""
        names = [name for name in imported(path) if name.split(".")[0] == "adcore"]
        found |= {(own, room(name) if room(name) in FLOORS else "") for name in names}
    return {arrow for arrow in found if arrow[0] != arrow[1]}


def test_adcore_has_rooms_and_a_door() -> None:
    inside = {path.name for path in (ROOT / "adcore").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert inside == set(FLOORS)


def test_no_room_has_rooms_inside() -> None:
    assert not [path for path in sources("adcore") if len(path.relative_to(ROOT).parts) > 3]


def test_nothing_lies_before_the_door() -> None:
    assert {path.stem for path in (ROOT / "adcore").glob("*.py")} == TOP


def test_no_room_imports_from_one_above_it() -> None:
    height = {name: number for number, name in enumerate(FLOORS)} | {"": len(FLOORS)}
    assert [(low, high) for low, high in sorted(arrows()) if height[high] > height[low]] == []


def test_an_upward_import_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "adcore" / "core").mkdir(parents=True)
    text = "if TYPE_CHECKING:\n    from adcore.report import a\n"
    text += "def f():\n    from adcore import methods\n    import adcore.api\n"
    (tmp_path / "adcore" / "core" / "b.py").write_text(text)
    assert arrows() == {("core", "report"), ("core", "methods"), ("core", "")}


def test_kernels_use_nothing_of_ours() -> None:
    assert not {arrow for arrow in arrows() if arrow[0] == "kernels"}


def test_a_metric_uses_what_a_column_is_and_nothing_else() -> None:
    names = {name for path in sources("adcore/metrics") for name in imported(path) if room(name) == "core"}
    assert all(name.startswith("adcore.core.columns") for name in names), names


def test_methods_know_no_files_and_no_bookkeeping() -> None:
    allowed = ("contracts", "draws", "training", "prefetch", "plan", "devices", "selection", "arrays")
    names = {name for path in sources("adcore/methods") for name in imported(path) if room(name) == "core"}
    assert all(name.split(".")[2] in allowed for name in names), names


def test_only_tracking_imports_mlflow() -> None:
    users = {line.split(" ")[0] for package in ("tasks", "flows") for line in breaches(package, {"mlflow"})}
    assert {user.rpartition("/")[0] for user in users} == {"tasks/tracking"}


WITH_TORCH = ("devices", "selection", "training")  # of core: for those that compute


@pytest.mark.parametrize("group", ["methods", "enhancers", "datasets", "metrics", "columns", "protocols"])
def test_plug_ins_are_light_to_import(group: str) -> None:
    """Their networks are in files of their own, whose names begin with an underscore."""
    found = breaches(f"adcore/{group}", HEAVY | {"elpv_dataset"}, top=True)
    assert not [breach for breach in found if not breach.startswith(f"adcore/{group}/_")]


def test_what_everything_stands_on_is_light_to_import() -> None:
    found = breaches("adcore/core", HEAVY, top=True)
    assert {breach.split(" ")[0] for breach in found} == {f"adcore/core/{name}.py" for name in WITH_TORCH}


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
from adcore.engine.bench import Bench, Layout, read
from adcore.core.plan import load
from adcore.core.store import Remembering
from adcore.engine.schedule import missing
from adcore.results.finished import read as read_cells

plan, workspace = load(Path(sys.argv[1])), Path(sys.argv[2])
layout = Layout(workspace)
bench = Bench(plan, workspace, {spec.name: read(spec, layout) for spec in plan.datasets})
todo = [missing(Remembering(bench.store), cell) for cell in bench.cells]
read_cells(bench, bench.store, plan.metrics), bench.failures, bench.levels, bench.notes()
[*map(bench.leaks, bench.manifests)]
print(json.dumps([[cell.key for cell in bench.cells], sorted({name.split(".")[0] for name in sys.modules})]))
"""
    found, modules = json.loads(python(script, str(plan), str(prepared.layout.workspace)))
    assert found == [cell.key for cell in prepared.cells] and len(found) == 4
    assert not set(modules) & (HEAVY | ORCHESTRATION)
