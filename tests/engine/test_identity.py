"""Identities of steps: a rename, a move, words and what is not used move none; a changed operator moves exactly those
of the steps that reach it. Over every module that makes a number, as found by what is reached."""

from __future__ import annotations

import ast
import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from adcore.core import _reading as reading
from adcore.core import _scopes as scopes
from adcore.core import keys, sources
from adcore.core.sources import Definitions
from adcore.engine import identity, registry
from adcore.report import statistics
from adcore.results import samples
from tests.reach import behind

ADCORE = Path(identity.__file__).parents[1]
WHOLE = ("features", "cell", "gallery", "validation", "sight")
METHODS, ENHANCERS = sorted(registry.modules("methods")), sorted(registry.modules("enhancers"))

TELL = """
import json
from adcore.engine import identity, registry
from adcore.report import statistics
from adcore.results import samples

def every():
    for name in {whole}:
        yield name, getattr(identity, name)()
    yield "sample", samples.identity()
    yield "statistics", statistics.identity()
    for name in {methods}:
        cls = registry.method(name)
        for step in ("maps", "latency", "efficiency"):
            yield f"{{step}} of {{name}}", getattr(identity, step)(cls)
        for selects in (False, True):
            yield f"fit of {{name}}, {{selects}}", identity.fit(cls, selects)
    for name in {enhancers}:
        for host in (False, True):
            yield f"{{name}}, {{host}}", identity.enhancer(registry.enhancer(name), host)
"""
TELL = TELL.format(whole=WHOLE, methods=METHODS, enhancers=ENHANCERS)


def every() -> dict[str, str]:
    """All identities of this process."""
    namespace: dict[str, object] = {}
    exec(TELL, namespace)
    return dict(namespace["every"]())  # type: ignore[operator]


def elsewhere(tree: Path) -> dict[str, str]:
    """All identities of the adcore in `tree`, in another process."""
    script = TELL + f"\nassert identity.__file__.startswith({str(tree)!r})\nprint(json.dumps(dict(every())))"
    environment = {**os.environ, "PYTHONPATH": str(tree.parent)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tree.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def closures() -> dict[str, Definitions]:
    """What each identity is made of."""
    return behind(every)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    other = tmp_path / "adcore"
    shutil.copytree(ADCORE, other, ignore=shutil.ignore_patterns("__pycache__"))
    return other


def name_of(path: Path) -> str:
    return ".".join(["adcore", *path.relative_to(ADCORE).with_suffix("").parts])


class Busy(ast.NodeTransformer):
    """Adds what nobody uses: docstrings, attributes, functions and constants."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        if "NamedTuple" not in map(ast.unparse, node.bases):
            node.body += ast.parse("nobody_reads_this: nobodys.ClassVar[int] = 1").body
        node.body.insert(0, ast.parse("'It is a thing.'").body[0])
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, ast.parse("'It does a thing.'").body[0])
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self.generic_visit(node)
        future = next((i for i, each in enumerate(node.body) if "__future__" in ast.unparse(each)), -1)
        extra = "import typing as nobodys\nNOBODY_READS_THIS = 2\ndef nobody_calls_this():\n    return 3\n"
        node.body[future + 1 : future + 1] = ast.parse(extra).body
        return node


def test_words_and_what_nobody_uses_move_no_key(tree: Path) -> None:
    """`ast.unparse` is an independent formatter that drops all comments."""
    before = every()
    for path in tree.rglob("*.py"):
        busy = Busy().visit(ast.parse(path.read_text(encoding="utf-8")))
        path.write_text("# new\n" + ast.unparse(ast.fix_missing_locations(busy)), encoding="utf-8")
    assert elsewhere(tree) == before


class Renamed(ast.NodeTransformer):
    """Imports modules under other names."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        base = node.module or ""
        for alias in node.names:
            new = self.names.get(f"{base}.{alias.name}")
            if new:
                alias.asname, alias.name = alias.asname or alias.name, new.rpartition(".")[2]
        node.module = self.names.get(base, base)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Roots of identities, as text."""
        if isinstance(node.value, str):
            module, colon, rest = node.value.partition(":")
            node.value = self.names.get(module, module) + colon + rest
        return node


def test_renamed_and_moved_modules_move_no_key(tree: Path, closures: dict[str, Definitions]) -> None:
    before = every()
    groups = ("methods", "enhancers", "metrics")
    fixed = {f"adcore.{group}.{name}" for group in groups for name in registry.modules(group)}
    fixed |= {samples.__name__, statistics.__name__}  # asked for their identities
    names = {
        module: other(module)
        for module in number_making(closures) - fixed
        if not (ADCORE.parent / Path(*module.split("."))).is_dir()
    }
    names |= {"adcore.vision.maps": "adcore.kernels.moved_maps", "adcore.metrics._pro": "adcore.moved_pro"}
    assert len(names) > 40
    for path in tree.rglob("*.py"):
        renamed = Renamed(names).visit(ast.parse(path.read_text(encoding="utf-8")))
        path.write_text(ast.unparse(ast.fix_missing_locations(renamed)), encoding="utf-8")
    for old, new in names.items():
        place = tree.parent.joinpath(*old.split(".")).with_suffix(".py")
        place.rename(tree.parent.joinpath(*new.split(".")).with_suffix(".py"))
    assert elsewhere(tree) == before


def other(module: str) -> str:
    """In the same folder; a file whose name begins with `_`, among metrics, since another would be a metric."""
    folder, _, name = module.rpartition(".")
    return f"{folder}.{'_' if folder == 'adcore.metrics' else ''}other_{name}"


def number_making(closures: dict[str, Definitions]) -> set[str]:
    return {module for definitions in closures.values() for module, _ in definitions}


def test_only_the_steps_that_use_a_module_notice_a_change_in_it(closures: dict[str, Definitions]) -> None:
    every_method = {f"{step} of {name}" for step in ("latency", "efficiency") for name in METHODS}
    expected = {
        "kernels.coreset": of("fit maps efficiency", "patchcore mffa fastrecon"),
        "kernels.gaussian": of("fit maps latency efficiency", "padim mffa") | of("fit maps", "glad gcpf"),
        "methods.cfa": of("fit maps latency efficiency", "cfa"),
        "vision.perlin": {"sbm", "pfam"} | of("fit maps efficiency", "simplenet"),
        "vision.jigsaw": {"sbm", "pfam"},
        "vision.cutpaste": {"psg"},
        "enhancers._mfcsam": {"pfam"},
        "enhancers._lgffp": {"lgffp"} | of("fit maps latency efficiency", "mffa"),
        "enhancers._finetuning": {"sbm", "psg"},
        "enhancers._maptraining": {"pfam"},
        "engine.latency": {name for name in every_method if name.startswith("latency")},
        "engine.sizes": every_method,
        "metrics.aupro": {"cell"},
        "metrics._pro": {"cell", "gallery", "sight"},
        "vision.gallery": {"gallery"},
        "datasets.validation": {"validation", "sight"},
        "report.leaderboard": {"statistics"},
        "core.store": set(),  # and what else decides no number: storage, wiring
        "core.costs": set(),
        "engine.chains": set(),
        "engine.registry": set(),
        "core.columns": set(),  # how a metric is called and shown
    }
    users = {module: {step.partition(",")[0] for step in steps(closures, f"adcore.{module}")} for module in expected}
    apart = {name: sorted(found ^ expected[name]) for name, found in users.items() if found != expected[name]}
    assert apart == {}


def test_what_carries_a_step_out_is_in_its_key(closures: dict[str, Definitions]) -> None:
    """A mended fault in these is computed again."""
    assert {"adcore.engine.compute", "adcore.features.bank"} <= {
        module for module, _ in closures["fit of padim, False"]
    }
    assert {"adcore.engine.enhancement", "adcore.core.training", "adcore.engine.compute"} <= {
        module for module, _ in closures["sbm, False"]
    }
    assert {"adcore.engine.evaluation", "adcore.engine.compute"} <= {module for module, _ in closures["cell"]}


def test_smoothing_is_in_the_key_of_maps_and_of_no_fit(closures: dict[str, Definitions]) -> None:
    smoothing = {step for step, found in closures.items() if ("adcore.vision.maps", "postprocess") in found}
    assert {step for step in smoothing if step.endswith(", False") or " of " not in step} == {"cell", "gallery"}


def of(steps: str, methods: str) -> set[str]:
    return {f"{step} of {method}" for step in steps.split() for method in methods.split()}


def steps(closures: dict[str, Definitions], module: str) -> set[str]:
    return {step for step, definitions in closures.items() if module in {where for where, _ in definitions}}


OPPOSITE = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.Gt: ast.LtE, ast.Lt: ast.GtE}
OPPOSITE |= {ast.Eq: ast.NotEq, ast.In: ast.NotIn, ast.And: ast.Or, ast.Or: ast.And, ast.BitOr: ast.BitAnd}


def changed(tree: ast.Module, names: set[str]) -> tuple[str, ast.Module]:
    """A copy with one operator, or for want of one a number or a text, of one of the named functions or constants
    replaced, and which; "" where there is none."""
    other = copy.deepcopy(tree)
    for statement in other.body:
        name = getattr(statement, "name", "") or ast.unparse(getattr(statement, "target", None) or ast.Pass())
        name = ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) else name
        if name in names and not isinstance(statement, ast.ClassDef):
            for node in ast.walk(statement):
                if replaced(node):
                    return name, other
    return "", other


def replaced(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp) and type(node.op) in OPPOSITE:
        node.op = cast(ast.operator, OPPOSITE[type(node.op)]())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in OPPOSITE:
        node.ops[0] = cast(ast.cmpop, OPPOSITE[type(node.ops[0])]())
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str)):
        node.value = node.value * 2 if node.value else 1
    else:
        return False
    return True


@pytest.mark.slow
def test_a_changed_operator_moves_exactly_the_keys_that_reach_it(
    closures: dict[str, Definitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = every()
    for module in sorted(number_making(closures)):
        names = {name for definitions in closures.values() for where, name in definitions if where == module}
        name, tree = changed(scopes.tree(module)[0], names)
        if not name:
            continue
        with monkeypatch.context() as patch:
            put(patch, module, tree)
            after = every()
        keys.code.cache_clear()
        expected = {step for step, definitions in closures.items() if (module, name) in definitions}
        assert {step for step in after if after[step] != before[step]} == expected, (module, name)


def put(patch: pytest.MonkeyPatch, module: str, tree: ast.Module) -> None:
    """A module has that syntax, and what was read of others stays."""
    parse, read = scopes.tree, reading.definitions
    patch.setattr(scopes, "tree", lambda name: (tree, parse(name)[1]) if name == module else parse(name))
    patch.setattr(reading, "names_of", scopes.names_of.__wrapped__)
    other = read.__wrapped__(module, frozenset({"adcore"}))
    patch.setattr(sources, "definitions", lambda name, packages: other if name == module else read(name, packages))
    keys.code.cache_clear()
