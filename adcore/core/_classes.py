"""Which statements of a class count only when something calls them by name."""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator
from typing import Literal

from adcore.core._scopes import Reference, Scope, attribute, bound, names_of

OPEN = {"ABC", "Protocol", "Generic", "object"}  # foreign bases that read no attribute of a subclass
TORCH = "Module"  # torch.nn.Module calls methods of a subclass, and reads a few attributes
TORCH_READS = {"call_super_init", "dump_patches", "training"}
TRANSPARENT = {"property", "cached_property", "classmethod", "staticmethod", "abstractmethod", "setter"}  # decorators

Kind = Literal["open", "torch", "closed"]
Statements = list[ast.stmt]


def split(node: ast.ClassDef, scope: Scope) -> tuple[Statements, dict[str, Statements]]:
    """The statements that always count, and the others by the name that calls them."""
    kind = _kind(node, scope)
    head: Statements = []
    members: dict[str, Statements] = defaultdict(list)
    for statement in node.body:
        name = _member(statement, kind, _is_dataclass(node))
        (members[name] if name else head).append(statement)
    return head, members


def _kind(node: ast.ClassDef, scope: Scope) -> Kind:
    """open: nobody but our code reads its attributes. torch: torch.nn.Module does, too. closed: a library may."""
    if node.keywords or (node.decorator_list and not _is_dataclass(node)):
        return "closed"
    kinds = {_base_kind(base, scope) for base in node.bases}
    return "closed" if "closed" in kinds else "torch" if "torch" in kinds else "open"


def _base_kind(node: ast.expr, scope: Scope) -> Kind:
    node = node.value if isinstance(node, ast.Subscript) else node
    for module, name in _own_base(node, scope):
        inner = names_of(module, scope.packages)
        classes = [each for each in inner.statements.get(name, []) if isinstance(each, ast.ClassDef)]
        return _kind(classes[0], inner) if classes else _base_kind(ast.Name(name), inner)
    last = ast.unparse(node).rpartition(".")[2]
    error = isinstance(builtin := getattr(builtins, last, None), type) and issubclass(builtin, BaseException)
    return "open" if error or last in OPEN else "torch" if last == TORCH else "closed"


def _own_base(node: ast.expr, scope: Scope) -> Iterator[Reference]:
    if isinstance(node, ast.Name):
        yield from scope.imports.get(node.id, ())
        if any(isinstance(each, ast.ClassDef) for each in scope.statements.get(node.id, [])):
            yield scope.module, node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        for module, _ in scope.imports.get(node.value.id, ()):
            yield attribute(module, node.attr)


def _is_dataclass(node: ast.ClassDef) -> bool:
    return len(node.decorator_list) == 1 and ast.unparse(node.decorator_list[0]).partition("(")[0] == "dataclass"


def _member(statement: ast.stmt, kind: Kind, fields: bool) -> str:
    """The name by which a statement of a class counts only when it is called; "" where it always counts."""
    names = list(bound([statement]))
    constant = isinstance(statement, ast.AnnAssign) and "ClassVar" in ast.unparse(statement.annotation)
    if len(names) != 1 or (kind == "closed" and not constant):
        return ""
    name = names[0]
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        decorators = {ast.unparse(each).rpartition(".")[2] for each in statement.decorator_list}
        return name if kind == "open" and decorators <= TRANSPARENT else ""
    if isinstance(statement, ast.AnnAssign):
        return "" if fields and not constant else _attribute(name, kind)
    return _attribute(name, kind) if isinstance(statement, ast.Assign) else ""


def _attribute(name: str, kind: Kind) -> str:
    return "" if kind == "torch" and name in TORCH_READS else name
