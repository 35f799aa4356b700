"""Any folder in the layout of MVTec AD: `{name: my_line, kind: folder, root: PATH}`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

from adcore.core.names import paired, written
from adcore.datasets import layout
from adcore.datasets._folders import files, or_fault, relative, visible_folders
from adcore.datasets._unread import is_picture, remark
from adcore.datasets.base import GOOD, OUTPUTS, PASSED_OVER, DataError, Dataset, Entry


class Folder(Dataset):
    """One category a folder, or a root that is itself one category (it has train/). Without a root: data/NAME.

    A folder with neither train nor test is no category, unless the plan asks for it.
    """

    kind: ClassVar[str] = "folder"
    good: ClassVar[tuple[str, ...]] = (GOOD,)
    grouped: ClassVar[bool] = True

    @property
    def root(self) -> Path:
        return self.spec.root or self.data / self.name

    def entries(self) -> list[Entry]:
        found = self._found()
        if self.spec.group is None:
            return found
        grouped = [replace(entry, group=self._group(entry)) for entry in found]
        if not any(entry.group for entry in grouped):
            first = next((entry.path for entry in found if entry.split), "there is no image")
            raise DataError(f"dataset {self.name}: group: '{self.spec.group}' is found in no path, such as {first}")
        return grouped

    def _group(self, entry: Entry) -> str:
        """What the plan's pattern catches of an image's path; "" where it is not found in it."""
        match = re.search(self.spec.group or "", entry.path) if entry.split else None
        return (match[1] or "") if match else ""

    def _found(self) -> list[Entry]:
        root = self.root.resolve()
        present = [root] if (root / "train").is_dir() else visible_folders(root)
        if self.spec.categories is not None:
            return [entry for category in self.spec.categories for entry in self._asked(root, category, present)]
        ours = self._outputs()
        present = [folder for folder in present if folder not in ours]
        categories = [folder for folder in present if layout.is_category(folder)]
        if not categories:
            expected = "expected CATEGORY/train/good/*.png in it"
            raise DataError(f"dataset {self.name}: {self.root} holds no category; {expected}")
        entries = [entry for folder in categories for entry in self._listed(root, written(folder.name), folder)]
        return entries + list(_beside(root, set(present) - {self.data.parent.resolve()}, categories))

    def _outputs(self) -> list[Path]:
        """What we write into the workspace, which may be the root as well."""
        return [self.data.parent.resolve() / name for name in OUTPUTS]

    def _asked(self, root: Path, category: str, present: list[Path]) -> list[Entry]:
        names = {folder: written(folder.name) for folder in present}
        same = paired({category: category}, names)[category]
        if same:
            return self._listed(root, category, same[0])
        near = get_close_matches(category, names.values(), n=1, cutoff=0)
        mend = f"the nearest name is {near[0]}" if near else f"{written(root.name)} holds no folder"
        return [Entry(category, category, "", GOOD, error=f"no such category: {category}; {mend}")]

    def _listed(self, root: Path, category: str, folder: Path) -> list[Entry]:
        return or_fault(lambda: self._entries_of(root, category, folder), category)

    def _entries_of(self, root: Path, category: str, folder: Path) -> Iterable[Entry]:
        yield from layout.category_entries(root, folder, category, layout.Spelling(self.good_folders))
        yield from layout.unknown_places(root, category, folder, self._outputs())


def _beside(root: Path, present: Collection[Path], categories: list[Path]) -> Iterator[Entry]:
    """What lies beside the categories of a root and is none."""
    if categories == [root]:
        return
    yield from remark(root, "", root, [file for file in files(root) if is_picture(file)], "beside the categories")
    others = ", ".join(relative(folder, root) for folder in sorted(present) if folder not in categories)
    if others:
        error = f"{PASSED_OVER}: without a folder train or test these are no categories: {others}"
        yield Entry(relative(root, root), "", "", GOOD, error=error)
