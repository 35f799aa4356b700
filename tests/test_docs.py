"""What the documentation links to and what the sources cite is in every clone."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
DESCRIPTIONS = [REPO / "published/README.md", *sorted(REPO.glob("docs/**/*.md"))]  # of what is there now
PAGES = [*(REPO / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *DESCRIPTIONS]
FOLDERS = ("adcore", "tasks", "flows", "tests", "benchmarks")
SCRIPTS = [path for folder in FOLDERS for path in sorted((REPO / folder).rglob("*.py"))]
SETTINGS = [*sorted(REPO.glob("*.yaml")), *sorted(REPO.glob("suites/*.yaml")), *sorted(REPO.glob("published/*.yaml"))]

FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)")
DOCUMENT = re.compile(r"(?<![\w./-])[\w./-]*[\w-]\.md\b(?:#[\w-]+)?")
SOURCE = re.compile(
    r"(?<![\w./-])(?:adcore|tasks|flows|tests|benchmarks|suites|published)/[a-z0-9_./-]+\.(?:py|yaml|csv)\b"
)
# Names by which the papers and what was written about them went before they had pages here.
NOWHERE = re.compile(r"\b[Pp]aper [1-4]\b|\bP[1-4]\b|\b[Tt]he specification\b|(?<![\w/])shared/")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading: small letters, no punctuation, a hyphen for every space."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Of all headings of a page; a repeated one has its number behind it."""
    names: set[str] = set()
    counts: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCED.sub("", text), re.MULTILINE):
        name = slug(heading)
        names.add(f"{name}-{counts[name]}" if name in counts else name)
        counts[name] = counts.get(name, 0) + 1
    return names


def dangling(target: str, page: Path) -> str:
    """Why a link or citation `target`, as seen from the file `page`, leads nowhere; '' where it leads somewhere."""
    name, _, anchor = target.partition("#")
    path = page.parent / name if name else page
    if not path.exists():
        return f"{target}: no such file"
    if anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
        return f"{target}: no such heading"
    return ""


def links(text: str) -> list[str]:
    """Relative links of a page, those in code left out."""
    plain = re.sub(r"`[^`]*`", "", FENCED.sub("", text))
    return [target for target in LINK.findall(plain) if not re.match(r"[a-z]+:", target)]


def prose(script: str) -> str:
    """Comments and docstrings of a script."""
    tokens = tokenize.generate_tokens(io.StringIO(script).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(script)) if isinstance(node, documented)]
    return "\n".join([*comments, *(ast.get_docstring(node) or "" for node in nodes)])


@functools.cache
def written_names() -> set[str]:
    """Names of the documents that adcore itself writes into results/."""
    scripts = [path for path in SCRIPTS if path.relative_to(REPO).parts[0] in ("adcore", "tasks", "flows")]
    candidates = [text for path in scripts if ".md" in (text := path.read_text(encoding="utf-8"))]
    nodes = (node for text in candidates for node in ast.walk(ast.parse(text)))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for text in texts if re.fullmatch(r"[\w-]+\.md", text)}


def cited(text: str) -> Iterator[str]:
    """Documents, with or without an anchor, that a text names, but for those that adcore writes."""
    written = written_names()
    for target in DOCUMENT.findall(text):
        name = target.partition("#")[0]
        if name not in written and not name.startswith("results/"):
            yield target


@functools.cache
def prose_of_all() -> dict[Path, str]:
    """What the sources that cite anything say beside their code: comments and docstrings of a script, all of a settings
    file."""
    texts = {path: path.read_text(encoding="utf-8") for path in [*SCRIPTS, *SETTINGS] if path != Path(__file__)}
    citing = {path: text for path, text in texts.items() if ".md" in text or NOWHERE.search(text)}
    return {path: prose(text) if path.suffix == ".py" else text for path, text in citing.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = links(page.read_text(encoding="utf-8"))
    assert [why for target in targets if (why := dangling(target, page))] == []


def test_every_document_that_a_source_cites_is_in_a_clone() -> None:
    broken = {
        str(path.relative_to(REPO)): [why for target in cited(text) if (why := dangling(target, REPO / "README.md"))]
        for path, text in prose_of_all().items()
    }
    assert {path: why for path, why in broken.items() if why} == {}


def test_messages_name_pages_that_are_there() -> None:
    """In strings, such as the texts of errors, too."""
    texts = [path.read_text(encoding="utf-8") for path in SCRIPTS if path != Path(__file__)]
    targets = {target for text in texts for target in re.findall(r"\bdocs/[\w./-]*[\w-]\.md\b(?:#[\w-]+)?", text)}
    assert targets
    assert [why for target in sorted(targets) if (why := dangling(target, REPO / "README.md"))] == []


def test_papers_are_cited_by_name() -> None:
    texts = prose_of_all() | {page: page.read_text(encoding="utf-8") for page in PAGES}
    numbered = {str(path.relative_to(REPO)): NOWHERE.findall(text) for path, text in texts.items()}
    assert {path: names for path, names in numbered.items() if names} == {}


@pytest.mark.parametrize("page", DESCRIPTIONS, ids=lambda page: str(page.relative_to(REPO)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    names = SOURCE.findall(page.read_text(encoding="utf-8"))
    assert [name for name in names if not (REPO / name).exists()] == []


def test_every_page_of_a_paper_is_cited_by_the_code() -> None:
    code = "\n".join(text for path, text in prose_of_all().items() if "adcore" in path.relative_to(REPO).parts)
    assert [page.name for page in REPO.glob("docs/papers/*.md") if f"docs/papers/{page.name}" not in code] == []


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("How PFAM is trained", "how-pfam-is-trained"),
        ("Keys of a plan: `backbone`, `image_size`", "keys-of-a-plan-backbone-image_size"),
        ("SBM + PFAM", "sbm--pfam"),
        ("[Metrics](metrics.md), all of them", "metrics-all-of-them"),
    ],
)
def test_slugs_are_those_of_github(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_headings_in_code_are_none_and_repeated_ones_are_numbered() -> None:
    text = "# One\n```\n# not one\n```\n## Two\n## Two\n"
    assert anchors(text) == {"one", "two", "two-1"}


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("other.md", "other.md: no such file"),
        ("page.md#three", "page.md#three: no such heading"),
        ("#three", "#three: no such heading"),
        ("page.md#two", ""),
        ("#two", ""),
    ],
)
def test_what_leads_nowhere_is_noticed(target: str, why: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n## Two\n")
    assert dangling(target, page) == why


def test_citations_are_seen_in_comments_and_docstrings_and_outputs_are_not_citations() -> None:
    script = '"""See docs/a.md#b."""\n# c.md, section 2, and leaderboard.md\nx = "d.md"\n'
    assert sorted(cited(prose(script))) == ["c.md", "docs/a.md#b"]
