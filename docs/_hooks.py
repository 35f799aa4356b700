"""The pages that stand outside docs/, where GitHub shows them, as pages of the site; links between them as there."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPO = Path(__file__).parents[1]
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "published/README.md", "published/names.yaml")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^()\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files from outside docs/, each at its own path."""
    for path in OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(REPO / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links between files of the repository as links between files of the site."""
    address = page.file.src_uri
    source = address if address in OUTSIDE else f"docs/{address}"
    return LINK.sub(lambda link: _moved(link[1], source, address), markdown)


def _moved(target: str, source: str, address: str) -> str:
    """A relative link of the file `source` as one of the page `address`. Strict builds refuse one to no page."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target)).removeprefix("docs/")
    return posixpath.relpath(path, posixpath.dirname(address) or ".")
