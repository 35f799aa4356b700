"""The names of a module: the statements that define each, and what the imported ones stand for."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

EVERYTHING = "*"  # in place of a name: all that a module defines
STATED = (ast.Import, ast.ImportFrom, ast.Global)  # say of names that they are no local ones

Reference = tuple[str, str]  # a module and a name in it: `function`, `Class`, `Class.member`, or EVERYTHING
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@functools.cache
def file(module: str) -> Path | None:
    """The source of a module, found without importing it or its parents; None where it has none."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    if not rest:
        return Path(spec.origin)
    if not spec.submodule_search_locations:
        return None
    base = Path(spec.origin).parent.joinpath(*rest)
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@functools.cache
def names_of(module: str, packages: frozenset[str]) -> Scope:
    """Raises ModuleNotFoundError where the module has no source."""
    return Scope(module, packages)


@functools.cache
def tree(module: str) -> tuple[ast.Module, str]:
    """Its syntax without what cannot change a result, and the package that it is in."""
    path = file(module)
    if path is None:
        raise ModuleNotFoundError(f"no source file for module {module}")
    syntax = _Plain().visit(ast.parse(path.read_text(encoding="utf-8")))
    return syntax, module if path.name == "__init__.py" else module.rpartition(".")[0]


class _Plain(ast.NodeTransformer):
    """Drops docstrings, annotations of functions and blocks for type checkers (comments are not in the tree)."""

    depth = 0  # of functions

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def _bare(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _bare

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if self.depth:
            node.annotation = ast.Constant(None)
        return self.generic_visit(node)


class Scope:
    """A module's names: the statements that define each, and what those are that it imports from `packages`."""

    def __init__(self, module: str, packages: frozenset[str]) -> None:
        self.module, self.packages = module, packages
        syntax, self.package = tree(module)
        self.statements: dict[str, list[ast.stmt]] = defaultdict(list)
        self.imports: dict[str, set[Reference]] = defaultdict(set)
        for statement in _one_name_each(syntax.body):
            for name in set(bound([statement])) or {""}:
                self.statements[name].append(statement)
        for node in (each for each in ast.walk(syntax) if isinstance(each, STATED)):
            for name, reference in self.imported(node):
                self.imports[name].add(reference)

    def imported(self, node: ast.AST) -> Iterator[tuple[str, Reference]]:
        """Local names that a statement imports from our packages, and what they stand for."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                if self._is_ours(alias.name):
                    top = alias.name.split(".")[0]
                    yield alias.asname or top, (alias.name if alias.asname else top, EVERYTHING)
        elif isinstance(node, ast.ImportFrom) and self._is_ours(base := self._base(node)):
            for alias in node.names:
                yield alias.asname or alias.name, attribute(base, alias.name)

    def _base(self, node: ast.ImportFrom) -> str:
        parents = self.package.split(".")[: len(self.package.split(".")) - node.level + 1] if node.level else []
        return ".".join([*parents, *([node.module] if node.module else [])])

    def _is_ours(self, module: str) -> bool:
        return module.split(".")[0] in self.packages and file(module) is not None


def attribute(module: str, name: str) -> Reference:
    """What `module.name` is: something that it defines, or a module in it."""
    inner = f"{module}.{name}"
    return (inner, EVERYTHING) if name not in _names(module) and file(inner) else (module, name)


@functools.cache
def _names(module: str) -> frozenset[str]:
    return frozenset(bound(tree(module)[0].body))


def _one_name_each(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (ast.Import([alias]) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield from (ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names)
        else:
            yield statement


def bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that statements bind in their own block: not those of functions, classes and comprehensions inside."""
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name):
            yield from [node.id] if isinstance(node.ctx, ast.Store) else []
        elif not isinstance(node, (ast.Lambda, Comprehension)):
            yield from [node.name] if isinstance(node, ast.ExceptHandler) and node.name else []
            yield from bound(ast.iter_child_nodes(node))
