"""What a protocol is."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
from pydantic import BaseModel, ConfigDict

from adcore.core.draws import generator

Split = tuple[pd.DataFrame, pd.DataFrame]


class Protocol(BaseModel):
    """Fields are the protocol's options. `split` picks rows of a manifest for one category and seed.

    A new one is one file in this folder with one subclass, named as the file, with hyphens. Training rows may have a
    column `variant`: which of the made versions of the image is meant, 0 being the image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str]
    seeded: ClassVar[bool] = True  # False: the split is the same for all seeds, and made once
    joint: ClassVar[bool] = False  # one model for all categories of a dataset

    def split(self, frame: pd.DataFrame, category: str, seed: int) -> Split:
        """(training rows, test rows). Models whose training rows are the same are fitted once. Raises ValueError."""
        raise NotImplementedError

    def seeds(self, seed: int) -> tuple[int, ...]:
        """The seeds that stand for one of the plan's: several where a protocol is drawn several times."""
        return (seed,)

    def chosen(self, frame: pd.DataFrame, category: str, seed: int) -> list[tuple[str, str]]:
        """(role, path) of the images that the seed has picked, for the results: `support` or `moved`."""
        return []


def of_category(frame: pd.DataFrame, category: str) -> Split:
    """A category's training and test rows."""
    rows = frame[frame.category == category]
    return rows[rows.split == "train"], rows[rows.split == "test"]


def drawn(rows: pd.DataFrame, count: int, seed: int, what: str, exact: bool = True) -> pd.DataFrame:
    """`count` of the rows, by seed and content: neither names nor the order of the manifest matter. No group is cut.

    Groups are drawn as their first rows come; one that would leave a rest which no others fill is passed over. exact:
    ValueError where whole groups do not add up to `count`; else fewer are drawn, but at least one group.
    """
    if rows.empty:
        return rows
    ordered = rows.sort_values(["sha256", "path"])
    shuffled = ordered.iloc[generator(seed, what).permutation(len(ordered))]
    sizes = shuffled.groupby(grouping(shuffled), sort=False).size()
    wanted = _filled(sizes.tolist(), count)
    if wanted is None and exact:
        reason = f"groups are not cut, and no whole ones of {rows['category'].iloc[0]} have {count} images together"
        raise ValueError(f"{what}: {reason}; take another number")
    while wanted is None:
        count -= 1
        wanted = _filled(sizes.tolist(), count) if count else [0]
    return shuffled[grouping(shuffled).isin(set(sizes.index[wanted])).to_numpy()]


def grouping(rows: pd.DataFrame) -> pd.Series[str]:
    """The group of each row; one of its own where the manifest names none."""
    own = "image " + rows["path"]
    return own if "group" not in rows else own.where(rows["group"] == "", "group " + rows["group"])


def _filled(sizes: list[int], count: int) -> list[int] | None:
    """The places of the first sizes that sum to `count`: each is taken if the later ones can fill the rest."""
    sums = [1]  # from behind: bit N says that some of the sizes from a place on sum to N, up to `count`
    for size in reversed(sizes):
        sums.append((sums[-1] | sums[-1] << size) & ((2 << count) - 1))
    sums.reverse()
    if not sums[0] >> count & 1:
        return None
    taken = []
    for place, size in enumerate(sizes):
        if size <= count and sums[place + 1] >> (count - size) & 1:
            taken.append(place)
            count -= size
    return taken
