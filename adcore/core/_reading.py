"""Reads a module into definitions."""

from __future__ import annotations

import ast
import copy
import functools
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from adcore.core._classes import split
from adcore.core._scopes import EVERYTHING, STATED, Comprehension, Reference, Scope, attribute, bound, names_of

BY_TEXT = {"getattr", "hasattr", "attrgetter", "methodcaller"}  # call an attribute by its name as text

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Definition:
    """Statements of a module that define one name: their text, in which `@` stands for each of `references` in turn.

    mentions: the names that it calls attributes by; own: those of them that it calls on `self` or `cls`.
    members: those of a class that count only when they are called.
    alias: what it stands for, where it is only imported from our own packages.
    """

    text: str
    references: tuple[Reference, ...]
    mentions: frozenset[str]
    own: frozenset[str] = frozenset()
    members: Mapping[str, Definition] = field(default_factory=dict)
    alias: Reference | None = None


@functools.cache
def definitions(module: str, packages: frozenset[str]) -> Mapping[str, Definition]:
    """What a module defines, by name; "" for what it does beside. Raises ModuleNotFoundError where it has no source."""
    scope = names_of(module, packages)
    return {name: _definition(statements, scope) for name, statements in scope.statements.items()}


def _definition(statements: Sequence[ast.stmt], scope: Scope) -> Definition:
    first = statements[0]
    if len(statements) == 1 and isinstance(first, ast.ClassDef):
        return _class(first, scope)
    definition = _Reader(scope).definition(statements)
    if len(statements) > 1 or definition.text or len(definition.references) != 1:
        return definition
    return replace(definition, alias=definition.references[0])  # an import of ours, which leaves no text


def _class(node: ast.ClassDef, scope: Scope) -> Definition:
    """Its head with what always counts, and its members."""
    head = copy.copy(node)
    head.body, parts = split(node, scope)
    members = {name: _Reader(scope).definition(statements, named=True) for name, statements in parts.items()}
    return replace(_Reader(scope).definition([head]), members=members)


class _Reader(ast.NodeTransformer):
    """Makes a definition of statements: replaces what they refer to in our packages, and notes it in order."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.references: list[Reference] = []
        self.mentions: set[str] = set()
        self.own: set[str] = set()
        self.locals: list[frozenset[str]] = []  # of the functions and comprehensions around
        self.in_class = False
        self.used: set[str] = set()
        self.unused: dict[str, Reference] = {}

    def definition(self, statements: Sequence[ast.stmt], named: bool = False) -> Definition:
        """named: its name is behaviour, as that of a class's member is."""
        self.in_class = named or isinstance(statements[0], ast.ClassDef)
        copies = pickle.loads(pickle.dumps(list(statements)))  # as copy.deepcopy, in a fifth of the time
        parts = [self.visit(each) for each in copies]
        for part in parts:
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not named:
                part.name = "_"
        # An import that is made for what it does, or for a name that is only passed on.
        self.references += [self.unused[name] for name in sorted(self.unused) if name not in self.used]
        text = "\n".join(ast.dump(part) for part in parts if part is not None)
        return Definition(text, tuple(self.references), frozenset(self.mentions), frozenset(self.own))

    def _without_ours(self, node: ast.Import | ast.ImportFrom) -> ast.AST | None:
        ours = dict(self.scope.imported(node))
        if ours:
            whole = {alias.name.split(".")[0]: (alias.name, EVERYTHING) for alias in node.names}
            self.unused |= ours if isinstance(node, ast.ImportFrom) else whole
        node.names = [alias for alias in node.names if (alias.asname or alias.name.split(".")[0]) not in ours]
        for alias in node.names:
            if not self.locals and alias.asname:  # at the module's level, where `@` stands for the name
                alias.asname = "_" if "." in alias.name and isinstance(node, ast.Import) else None
        return node if node.names else None

    def visit_Name(self, node: ast.Name) -> ast.AST:
        defines_attribute = self.in_class and not self.locals and isinstance(node.ctx, ast.Store)
        if defines_attribute or self._is_local(node.id):
            return node
        if node.id in self.scope.imports:
            self.used.add(node.id)
            return self._stands_for(sorted(self.scope.imports[node.id]), node.ctx)
        if node.id in self.scope.statements:
            return self._stands_for([(self.scope.module, node.id)], node.ctx)
        if not self.locals and isinstance(node.ctx, ast.Load):
            self.mentions.add(node.id)  # in a class's body its attributes are plain names
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        base, *names = _chain(node)
        modules = {m for m, n in self.scope.imports.get(base, ()) if n == EVERYTHING} if base else set()
        if not modules or self._is_local(base):
            self.mentions.add(node.attr)
            self.own |= {names[0]} if base in ("self", "cls") else set()
            return self.generic_visit(node)
        self.used.add(base)
        ends = [_follow(module, names) for module in sorted(modules)]
        found = self._stands_for([reference for reference, _ in ends], ast.Load())
        for name in ends[0][1]:
            self.mentions.add(name)
            found = ast.Attribute(found, name, ast.Load())  # type: ignore[arg-type]
        return found

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id in BY_TEXT:
            texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
            self.mentions |= {text for text in texts if isinstance(text, str)}
        return self.generic_visit(node)

    def _function(self, node: Function) -> ast.AST:
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        blocks = [inner for part in body for inner in ast.walk(part) if isinstance(inner, STATED)]
        imported = {name for inner in blocks for name, _ in self.scope.imported(inner)}
        imported |= {name for inner in blocks if isinstance(inner, ast.Global) for name in inner.names}
        arguments = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        visited = self._inside(node, frozenset((arguments | set(bound(body))) - imported))
        if not isinstance(node, ast.Lambda) and not node.body:
            node.body = [ast.Pass()]  # only imports were in it
        return visited

    def _comprehension(self, node: Comprehension) -> ast.AST:
        return self._inside(node, frozenset(bound(each.target for each in node.generators)))

    visit_Import = visit_ImportFrom = _without_ours
    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _inside(self, node: ast.AST, names: frozenset[str]) -> ast.AST:
        self.locals.append(names)
        self.generic_visit(node)
        self.locals.pop()
        return node

    def _is_local(self, name: str) -> bool:
        return any(name in names for names in self.locals)

    def _stands_for(self, references: Sequence[Reference], context: ast.expr_context) -> ast.AST:
        self.references += references
        return ast.Name("@" * len(references), context)


def _chain(node: ast.expr) -> list[str]:
    """`a.b.c` as names; a first one of "" where it does not begin with a name."""
    if isinstance(node, ast.Attribute):
        return [*_chain(node.value), node.attr]
    return [node.id if isinstance(node, ast.Name) else ""]


def _follow(module: str, names: Sequence[str]) -> tuple[Reference, Sequence[str]]:
    """What a module's attributes lead to, and those of that."""
    if not names:
        return (module, EVERYTHING), ()
    where, what = attribute(module, names[0])
    return ((where, what), names[1:]) if what != EVERYTHING else _follow(where, names[1:])
