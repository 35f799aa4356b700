"""What a piece of code depends on: the definitions that it can reach, as text that only a change of meaning changes.

Left out of the text are comments, layout, docstrings, annotations of functions, blocks for type checkers, and the names
and places of modules and of what they define. Of a class only the attributes and methods count that something reached
calls by name (rapid type analysis: Bacon and Sweeney, OOPSLA 1996, https://doi.org/10.1145/236337.236371), so that one
that is not used, or that only other steps use, changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace

from adcore.core._reading import Definition, definitions
from adcore.core._scopes import EVERYTHING, Reference

FOLLOWED = "adcore"

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
