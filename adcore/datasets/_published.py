"""What the public sets share: categories that are known beforehand, and a copy that somebody has to fetch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from adcore.datasets._folders import or_fault
from adcore.datasets.base import GOOD, DataError, Dataset, Entry, Progress


class Published(Dataset):
    """A public set. A kind gives its `facts` and lists one category in `listed`."""

    def fetch(self, progress: Progress) -> None:
        """Nothing is fetched unasked: the sets are large, and some licences need consent. Raises DataError."""
        if not self.root.is_dir():
            own = "or name the folder of your copy as `root` in the plan"
            raise DataError(
                f"dataset {self.name}: {self.root} does not exist; "
                f"run `python -m flows.prepare --dataset {self.kind}` {own}"
            )

    def entries(self) -> list[Entry]:
        root = self.root.resolve()
        present = self.categories_in(root)
        if not present:
            raise DataError(
                f"dataset {self.name}: {self.root} is no copy of {self.kind}: it holds none of its categories, "
                f"such as {next(iter(self.facts))}"
            )
        found: list[Entry] = []
        for category in self.facts if self.spec.categories is None else self.spec.categories:
            if category in present:
                found += or_fault(partial(self.listed, root, present[category], category), category)
            else:
                found += self._absent(category)
        return sorted(found, key=lambda entry: entry.path)

    @abstractmethod
    def listed(self, root: Path, folder: Path, category: str) -> Iterable[Entry]:
        """The images of one category, which lies in `folder`; paths relative to `root`."""

    def _absent(self, category: str) -> list[Entry]:
        if category in self.facts:
            mend = "get it, or list yours in the plan's `categories`"
            error = f"no such category: {category} is missing in this copy; {mend}"
        else:
            near = get_close_matches(category, self.facts, n=1, cutoff=0)[0]
            error = f"no such category: {category}; the nearest name is {near}"
        return [Entry(category, category, "", GOOD, error=error)]
