"""The documentation as a site: it is whole, and a page of it asks for nothing that is not in its folder."""

from __future__ import annotations

import logging
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

REPO = Path(__file__).parents[1]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "published/README.md")
LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class Addresses(HTMLParser):
    """What a page loads by itself, and what it links to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if values.get(LOADING.get(tag, "")):
            self.loaded.append(values[LOADING[tag]])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(REPO / "mkdocs.yml"), site_dir=str(folder)))
    return folder


def is_elsewhere(address: str) -> bool:
    return re.match(r"([a-z]+:)?//", address) is not None


def test_every_page_of_the_repository_is_a_page_of_the_site(site: Path) -> None:
    sources = [*PAGES, *(str(path.relative_to(REPO / "docs")) for path in REPO.glob("docs/**/*.md"))]
    pages = {re.sub(r"README\.md$", "index.html", source).replace(".md", ".html") for source in sources}
    assert pages <= {str(path.relative_to(site)) for path in site.rglob("*.html")}


def test_pages_and_styles_load_nothing_from_elsewhere(site: Path) -> None:
    loaded = {address for page in site.rglob("*.html") for address in Addresses(page).loaded}
    styles = "\n".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    loaded |= set(re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", styles))
    assert [address for address in loaded if is_elsewhere(address)] == []
    assert any("main" in address for address in loaded)  # else nothing was looked at


def test_links_between_pages_lead_to_files(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name != "404.html":  # its addresses are a server's
            targets = {urldefrag(link).url for link in Addresses(page).links if not is_elsewhere(link)}
            assert [target for target in targets if not (page.parent / target).exists()] == []


def test_links_that_lead_nowhere_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "pages").mkdir()
    targets = ["nowhere.md", "../Makefile", "#nowhere", "/metrics.md"]
    (tmp_path / "pages/page.md").write_text("# Page\n" + "".join(f"[x]({target})\n" for target in targets))
    folders = {"docs_dir": str(tmp_path / "pages"), "site_dir": str(tmp_path / "site")}
    config = load_config(str(REPO / "mkdocs.yml"), hooks=[], nav=["page.md"], **folders)
    caplog.set_level(logging.INFO, "mkdocs")
    with pytest.raises(Abort):
        build(config)
    assert [target for target in targets if f"link '{target}'" not in caplog.text] == []
