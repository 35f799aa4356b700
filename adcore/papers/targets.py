"""What a printed number is of, in our names: contender, dataset, categories and metric (published/names.yaml)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pandas as pd
from pydantic import BaseModel

from adcore.core.plan import BackboneSpec, Choice, PlanError
from adcore.engine import registry
from adcore.engine.chains import NONE, Chain, chain
from adcore.papers.published import DERIVED, Names, Ours, PublishedError, Quantity
from adcore.protocols.base import Protocol

if TYPE_CHECKING:
    from adcore.core.contracts import Method
    from adcore.engine.cells import Contender

SUBSETS = ("logical", "structural")
AVERAGES = ("avg_texture", "avg_object", "avg_mtl", "overall", "average", "all", *SUBSETS)
SAME_WHATEVER = ("draws", "augment")  # of a protocol: how often it is repeated makes no other protocol
EFFORT = ("preset", "epochs")  # a preset implies other sizes, which then need not be told

Row = Mapping[str, Any]
Combine = Literal["value", "delta", "range", "versus"]
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class PrintedContender:
    """A contender as a paper has it: a method with its options, an enhancer, a protocol, on its backbone and images.

    marks: options that tell the rows of tables apart; all others only make a result less comparable. ours: as
    names.yaml has it."""

    method: type[Method]
    options: BaseModel
    chain: Chain
    protocol: Protocol
    marks: frozenset[str]
    ours: Ours

    @property
    def label(self) -> str:
        """As the leaderboard calls the method with these options."""
        return registry.label(Choice(name=self.method.name, **self.ours.options), self.options)

    def differences(self, contender: Contender) -> list[str] | None:
        """In what a contender of a plan differs from it, as texts; None where it stands for something else."""
        same = contender.method is self.method and contender.chain.name == self.chain.name
        if not same or not self._same(contender.protocol):
            return None
        wanted, given = self.options.model_dump(), contender.options.model_dump()
        if any(wanted[name] != given[name] for name in self.marks):
            return None
        found = list(_changed(wanted, given | {name: wanted[name] for name in self._idle(wanted, contender)}))
        mine, others = ((*each.objects, *each.textures) for each in (self.chain, contender.chain))
        for one, other in zip(mine, others, strict=True):
            found += _changed(one.options.model_dump(), other.options.model_dump(), f"{one.name} ")
        return list(dict.fromkeys(found))

    def _idle(self, wanted: Mapping[str, Any], contender: Contender) -> list[str]:
        """Options that decide nothing on the paper's backbone, as `weights: auto` and `pretrained` of LGFFP."""
        paper, given = BackboneSpec(name=self.ours.backbone or ""), contender.options
        mine = self.method.identity(given, paper)
        changed = [name for name, value in wanted.items() if getattr(given, name) != value]
        others = {name: given.model_copy(update={name: wanted[name]}) for name in changed}
        return [name for name, other in others.items() if self.method.identity(other, paper) == mine]

    def _same(self, protocol: Protocol) -> bool:
        return type(protocol) is type(self.protocol) and not list(
            _changed(self.protocol.model_dump(exclude={*SAME_WHATEVER}), protocol.model_dump(exclude={*SAME_WHATEVER}))
        )

    def conditions(self, contender: Contender) -> list[str]:
        """In what backbone and images differ from the paper's, as texts."""
        wanted = {"backbone": self.ours.backbone, "layers": self.ours.layers, "image": self.ours.image}
        backbone, image = contender.backbone, contender.image
        given = {"backbone": backbone.name, "layers": backbone.layers, "image": image.label}
        open_ = {name for name in ("backbone", "image") if wanted[name] is None}
        return [*_changed({k: v for k, v in wanted.items() if k not in open_}, given)]


def _changed(wanted: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    names = [name for name in wanted if wanted[name] != given[name]]
    if "preset" in names:
        names = [name for name in names if name in EFFORT]
    for name in names:
        yield f"{prefix}{name} {registry.shown(given[name])} instead of {registry.shown(wanted[name])}"


@dataclass(frozen=True)
class Target:
    """What a printed number is of. combine: `value` of the one contender; `delta`, the first's less the second's;
    `range` of all of them; `versus`: the value less `printed` of one that we lack. category: ours, or one of
    AVERAGES."""

    kind: str
    category: str
    quantity: Quantity
    contenders: tuple[PrintedContender, ...]
    combine: Combine = "value"
    printed: float = 0.0

    @property
    def averaged(self) -> bool:
        return self.category in AVERAGES

    @property
    def column(self) -> str:
        """Of the leaderboard; a subset of the test images has its own."""
        subset = f"_{self.category}" if self.category in SUBSETS else ""
        return self.quantity.column + subset


class Joiner:
    """Joins rows of published tables with our contenders. `published`: the rows of all tables of these papers, for
    differences to a printed number."""

    def __init__(self, names: Names, published: pd.DataFrame | None = None) -> None:
        self.names = names
        self.published = published
        self._contenders: dict[str, PrintedContender] = {}

    def target(self, stem: str, row: Row) -> Target | str | None:
        """What a row is of; a reason where it is listed as unmatched; None for a contender that we lack.

        Raises PublishedError for a row that names.yaml does not know."""
        reason = self.names.why_unmatched(row)
        if reason:
            return reason
        if row["method"] in self.names.absent:
            return None
        ours = self._ours(stem, row)
        derived = DERIVED.fullmatch(row["metric"])
        metric = derived[2] if derived else row["metric"]
        quantities = {**self.names.metrics, **self.names.table(stem).metrics}
        quantity = self._known(quantities, metric, "metrics", stem)
        of_data = quantity.source == "leaderboard"
        kind = self._known(self.names.datasets, row["dataset"], "datasets", stem) if of_data else ""
        category = str(self.names.categories.get(kind, {}).get(row["category"], row["category"]))
        plain = Target(kind, category, quantity, (self.contender(ours),))
        if derived is None:
            return plain
        if derived[3]:
            return replace(plain, combine="versus", printed=self._printed(row, metric, derived[3]))
        combine: Combine = "delta" if derived[1] == "delta" else "range"
        return replace(plain, contenders=self._several(ours, combine, row), combine=combine)

    def contender(self, ours: Ours) -> PrintedContender:
        """The checked classes of what a row stands for. Raises PublishedError."""
        key = ours.model_dump_json(exclude={"versus", "spread", "caveat", "counts"})
        if key not in self._contenders:
            try:
                self._contenders[key] = self._made(ours)
            except PlanError as error:
                raise PublishedError(f"names.yaml: {error}") from None
        return replace(self._contenders[key], ours=ours)

    @cached_property
    def _marks(self) -> dict[str, frozenset[str]]:
        """Method -> the options that some row is told by."""
        names = self.names
        parts = [*names.systems.values(), *names.enhancers.values(), *names.settings.values()]
        parts += [part for table in names.tables.values() for part in (table.as_, *table.systems.values())]
        parts += [part.versus for part in parts if part.versus]
        every = {key for part in parts for key in (*part.options, *part.spread)}
        methods = {ours.method for ours in names.systems.values() if ours.method}
        return {method: frozenset(every & registry.method(method).Options.model_fields.keys()) for method in methods}

    def _ours(self, stem: str, row: Row) -> Ours:
        names = self.names
        found = self._known(names.systems, row["method"], "systems", stem)
        found = found.then(self._known(names.enhancers, row["enhancer"], "enhancers", stem))
        found = found.then(self._known(names.settings, row["setting"], "settings", stem))
        table = names.table(stem)
        return found.then(table.as_).then(table.systems.get(row["method"], Ours()))

    def _made(self, ours: Ours) -> PrintedContender:
        if ours.method is None:
            raise PlanError("an entry of systems names no method")
        cls = registry.method(ours.method)
        options = registry.options(Choice(name=ours.method, **ours.options), cls.Options, "method")
        protocol = ours.protocol or Choice(name="one-class")
        rules = registry.options(protocol, registry.protocol(protocol.name), "protocol")
        enhancer = chain(Choice(name=ours.enhancer or NONE), BackboneSpec(name=ours.backbone or ""))
        marks = self._marks[ours.method]
        return PrintedContender(cls, options, enhancer, rules, marks, ours)

    def _several(self, ours: Ours, combine: str, row: Row) -> tuple[PrintedContender, ...]:
        if combine == "delta":
            if ours.versus is None:
                raise PublishedError(f"names.yaml: {row['metric']} of {row['method']}: no `versus` says over what")
            return self.contender(ours), self.contender(ours.then(ours.versus))
        if not ours.spread:
            raise PublishedError(f"names.yaml: {row['metric']} of {row['method']}: no `spread` says over which options")
        ((option, values),) = ours.spread.items()
        return tuple(self.contender(ours.then(Ours(options={option: value}))) for value in values)

    def _printed(self, row: Row, metric: str, other: str) -> float:
        """What the same paper prints for another contender under the same conditions."""
        same = {name: row[name] for name in ("paper", "dataset", "setting", "category")}
        wanted = {**same, "metric": metric, "method": other, "enhancer": "none"}
        rows = pd.DataFrame() if self.published is None else self.published
        for name, value in wanted.items():
            rows = rows[rows[name] == value] if len(rows) else rows
        if rows.empty:
            raise PublishedError(
                f"{row['paper']} prints no {metric} of {other} on {row['dataset']}; list it as unmatched"
            )
        return float(rows["value"].iloc[0])

    def _known(self, entries: Mapping[str, Entry], name: str, where: str, stem: str) -> Entry:
        if name not in entries:
            raise PublishedError(
                f"{stem}.csv: names.yaml does not know '{name}'; add it to `{where}`, or to `unmatched`"
            )
        return entries[name]


def paper(stem: str, stems: Sequence[str]) -> list[str]:
    """The stems of all tables of the same paper."""
    return [other for other in stems if other.rpartition("_")[0] == stem.rpartition("_")[0]]
