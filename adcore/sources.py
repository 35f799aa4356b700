"""What a piece of code depends on: the definitions that it can reach, as text that only a change of meaning changes.

Left out of the text are comments, layout, docstrings, annotations of functions, blocks for type checkers, and the names
and places of modules and of what they define. Of a class only the attributes and methods count that something reached
calls by name (rapid type analysis: Bacon and Sweeney, OOPSLA 1996, https://doi.org/10.1145/236337.236371), so that one
that is not used, or that only other steps use, changes nothing.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import importlib.util
import pickle
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

EVERYTHING = "*"  # in place of a name: all that a module defines
OPEN = {"ABC", "Protocol", "Generic", "object"}  # foreign bases that read no attribute of a subclass
TORCH = "Module"  # torch.nn.Module calls methods of a subclass, and reads a few attributes
TORCH_READS = {"call_super_init", "dump_patches", "training"}
TRANSPARENT = {"property", "cached_property", "classmethod", "staticmethod", "abstractmethod", "setter"}  # decorators
BY_TEXT = {"getattr", "hasattr", "attrgetter", "methodcaller"}  # call an attribute by its name as text
FOLLOWED = "adcore"

Reference = tuple[str, str]  # a module and a name in it: `function`, `Class`, `Class.member`, or EVERYTHING
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
STATED = (ast.Import, ast.ImportFrom, ast.Global)  # say of names that they are no local ones
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


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


Definitions = dict[Reference, Definition]


def reached(roots: Iterable[Reference], outside: Collection[Reference] = ()) -> Definitions:
    """All definitions that `roots` need, directly or not; `outside`, and what only that needs, is left out.

    Followed are adcore and the packages of the roots. Raises ModuleNotFoundError for a module without source, and
    AttributeError for a name that its module does not define. A class of which a root is a member, and that nothing
    refers to, is known to nobody but itself: only its own calls count.
    """
    roots = list(roots)
    packages = frozenset({FOLLOWED, *(module.split(".")[0] for module, _ in roots)})
    search = _Search(packages, frozenset(outside))
    search.run(roots)
    return search.definitions


class _Search:
    def __init__(self, packages: frozenset[str], outside: frozenset[Reference]) -> None:
        self.packages, self.outside = packages, outside
        self.definitions: Definitions = {}
        self.queue: list[Reference] = []
        self.known: set[Reference] = set()  # classes whose members anybody may call
        self.mentions: set[str] = set()
        self.waiting: dict[str, list[Reference]] = defaultdict(list)  # members by the name that calls them

    def run(self, roots: Iterable[Reference]) -> None:
        """Keep what the roots stand for, and all that they need."""
        self.queue += roots
        while self.queue:
            module, name = reference = self._target(self.queue.pop())
            if reference in self.outside or (module, EVERYTHING) in self.outside:
                continue
            if "." not in name and reference not in self.known:
                self.known.add(reference)
                self._offer(reference)
            if reference not in self.definitions:
                self._define(reference)

    def _offer(self, reference: Reference) -> None:
        """Members of a class wait for whoever calls them."""
        module, name = reference
        definition = definitions(module, self.packages).get(name)
        for member in definition.members if definition else ():
            inner = module, f"{name}.{member}"
            (self.queue if member in self.mentions else self.waiting[member]).append(inner)

    def _define(self, reference: Reference) -> None:
        module, name = reference
        source = definitions(module, self.packages)
        if name == EVERYTHING:
            self.definitions[reference] = Definition("", (), frozenset())
            for each, definition in source.items():
                self.queue += [(module, each), *((module, f"{each}.{member}") for member in definition.members)]
            return
        owner, _, member = name.partition(".")
        try:
            self._keep(reference, source[owner].members[member] if member else source[owner])
        except KeyError:
            raise AttributeError(f"{module} defines no {name}") from None
        if member:
            if (module, owner) not in self.definitions:
                self._keep((module, owner), source[owner])
            own = self.definitions[reference].own
            self.queue += [(module, f"{owner}.{called}") for called in own if called in source[owner].members]

    def _keep(self, reference: Reference, definition: Definition) -> None:
        module, name = reference
        references = tuple(self._target(each) for each in definition.references)
        self.definitions[reference] = replace(definition, references=references)
        self.queue += references
        self.queue += [(module, f"{name}.{member}") for member in definition.members if _dunder(member)]
        self.mentions |= definition.mentions
        for mention in definition.mentions:
            self.queue += self.waiting.pop(mention, [])

    def _target(self, reference: Reference) -> Reference:
        """What a name that is only passed on by its module stands for."""
        module, name = reference
        if name == EVERYTHING:
            return reference
        definition = definitions(module, self.packages).get(name)
        if definition and definition.alias:
            return self._target(definition.alias)
        return reference


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


@functools.cache
def definitions(module: str, packages: frozenset[str]) -> Mapping[str, Definition]:
    """What a module defines, by name; "" for what it does beside. Raises ModuleNotFoundError where it has no source."""
    scope = _Scope(module, packages)
    return {name: _definition(statements, scope) for name, statements in scope.statements.items()}


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
def _tree(module: str) -> tuple[ast.Module, str]:
    """Its syntax without what cannot change a result, and the package that it is in."""
    path = file(module)
    if path is None:
        raise ModuleNotFoundError(f"no source file for module {module}")
    tree = _Plain().visit(ast.parse(path.read_text(encoding="utf-8")))
    return tree, module if path.name == "__init__.py" else module.rpartition(".")[0]


class _Plain(ast.NodeTransformer):
    """Drops docstrings, annotations of functions and blocks for type checkers (comments are not in the tree)."""

    depth = 0  # of functions

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._bare(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._bare(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def _bare(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if self.depth:
            node.annotation = ast.Constant(None)
        return self.generic_visit(node)


class _Scope:
    """A module's names: the statements that define each, and what those are that it imports from `packages`."""

    def __init__(self, module: str, packages: frozenset[str]) -> None:
        self.module, self.packages = module, packages
        tree, self.package = _tree(module)
        self.statements: dict[str, list[ast.stmt]] = defaultdict(list)
        self.imports: dict[str, set[Reference]] = defaultdict(set)
        for statement in _one_name_each(tree.body):
            for name in set(_bound([statement])) or {""}:
                self.statements[name].append(statement)
        for node in (each for each in ast.walk(tree) if isinstance(each, STATED)):
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
    return frozenset(_bound(_tree(module)[0].body))


def _one_name_each(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (ast.Import([alias]) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield from (ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names)
        else:
            yield statement


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
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
            yield from _bound(ast.iter_child_nodes(node))


def _definition(statements: Sequence[ast.stmt], scope: _Scope) -> Definition:
    first = statements[0]
    if len(statements) == 1 and isinstance(first, ast.ClassDef):
        return _class(first, scope)
    definition = _Reader(scope).definition(statements)
    if len(statements) > 1 or definition.text or len(definition.references) != 1:
        return definition
    return replace(definition, alias=definition.references[0])  # an import of ours, which leaves no text


def _class(node: ast.ClassDef, scope: _Scope) -> Definition:
    """Its head with what always counts, and its members."""
    kind = _kind(node, scope)
    split: dict[str, list[ast.stmt]] = defaultdict(list)
    head = copy.copy(node)
    head.body = []
    for statement in node.body:
        name = _member(statement, kind, _is_dataclass(node))
        (split[name] if name else head.body).append(statement)
    members = {name: _Reader(scope).definition(parts, named=True) for name, parts in split.items()}
    return replace(_Reader(scope).definition([head]), members=members)


Kind = Literal["open", "torch", "closed"]


def _kind(node: ast.ClassDef, scope: _Scope) -> Kind:
    """open: nobody but our code reads its attributes. torch: torch.nn.Module does, too. closed: a library may."""
    if node.keywords or (node.decorator_list and not _is_dataclass(node)):
        return "closed"
    kinds = {_base_kind(base, scope) for base in node.bases}
    return "closed" if "closed" in kinds else "torch" if "torch" in kinds else "open"


def _base_kind(node: ast.expr, scope: _Scope) -> Kind:
    node = node.value if isinstance(node, ast.Subscript) else node
    for module, name in _own_base(node, scope):
        inner = _Scope(module, scope.packages)
        classes = [each for each in inner.statements.get(name, []) if isinstance(each, ast.ClassDef)]
        return _kind(classes[0], inner) if classes else _base_kind(ast.Name(name), inner)
    last = ast.unparse(node).rpartition(".")[2]
    error = isinstance(builtin := getattr(builtins, last, None), type) and issubclass(builtin, BaseException)
    return "open" if error or last in OPEN else "torch" if last == TORCH else "closed"


def _own_base(node: ast.expr, scope: _Scope) -> Iterator[Reference]:
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
    names = list(_bound([statement]))
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


class _Reader(ast.NodeTransformer):
    """Makes a definition of statements: replaces what they refer to in our packages, and notes it in order."""

    def __init__(self, scope: _Scope) -> None:
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

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        return self._without_ours(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return self._without_ours(node)

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
        attribute = self.in_class and not self.locals and isinstance(node.ctx, ast.Store)
        if attribute or self._is_local(node.id):
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

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._function(node)

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        return self._comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        return self._comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        return self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        return self._comprehension(node)

    def _function(self, node: Function) -> ast.AST:
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        blocks = [inner for part in body for inner in ast.walk(part) if isinstance(inner, STATED)]
        imported = {name for inner in blocks for name, _ in self.scope.imported(inner)}
        imported |= {name for inner in blocks if isinstance(inner, ast.Global) for name in inner.names}
        arguments = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        visited = self._inside(node, frozenset((arguments | set(_bound(body))) - imported))
        if not isinstance(node, ast.Lambda) and not node.body:
            node.body = [ast.Pass()]  # only imports were in it
        return visited

    def _comprehension(self, node: Comprehension) -> ast.AST:
        return self._inside(node, frozenset(_bound(each.target for each in node.generators)))

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
