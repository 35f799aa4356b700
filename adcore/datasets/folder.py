"""Any folder in the layout of MVTec AD: `{name: my_line, kind: folder, root: PATH}`."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

from adcore.datasets import layout
from adcore.datasets.base import GOOD, DataError, Dataset, Entry


class Folder(Dataset):
    """One category a folder, or a root that is itself one category (it has train/). Without a root: data/NAME."""

    kind: ClassVar[str] = "folder"

    @property
    def root(self) -> Path:
        return self.spec.root or self.data / self.name

    def entries(self) -> list[Entry]:
        root = self.root.resolve()
        single = (root / "train").is_dir()
        present = {root.name: root} if single else {folder.name: folder for folder in layout.folders(root)}
        if not present:
            raise DataError(
                f"dataset {self.name}: {self.root} holds no category; expected CATEGORY/train/good/*.png in it"
            )
        wanted = present if self.spec.categories is None else self.spec.categories
        return [entry for category in wanted for entry in self._category(root, category, present)]

    def _category(self, root: Path, category: str, present: dict[str, Path]) -> list[Entry]:
        if category in present:
            return layout.category_entries(root, present[category], category)
        near = get_close_matches(category, present, n=1, cutoff=0)[0]
        error = f"no such category: {category}; the nearest name is {near}"
        return [Entry(category, category, "", GOOD, error=error)]
