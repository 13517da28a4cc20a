"""The documentation site: it builds without a warning, every link leads somewhere, nothing is asked of other hosts."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from browsers import QUIET, find_browser
from everest.cli import build_parser
from everest.config import FinetuneConfig, PretrainConfig
from everest.recipes import list_recipes
from everest.settings import flatten

ROOT = Path(__file__).parents[1]
EXECUTABLE = find_browser()
LOADED = {
    "link": "href",
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "form": "action",
}
sys.path.append(str(ROOT / "docs"))


class Page(HTMLParser):
    """What a page of the site refers to, and what can be referred to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.anchors, self.links, self.loaded = path, set[str](), list[str](), list[str]()
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif LOADED.get(tag) in values:
            self.loaded.append(values[LOADED[tag]])


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "-c", str(source / "docs"), "-E", "-W", "--keep-going", "-q"]
    return subprocess.run([*command, str(source), str(out)], capture_output=True, text=True, check=False)


def read_pages(folder: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in folder.rglob("*.html")}


def broken_links(pages: dict[Path, Page]) -> Iterator[str]:
    """List what pages link to or load that is not there."""
    for page in pages.values():
        for target in [*page.links, *page.loaded]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            if not path.is_file():
                yield f"{page.path.name}: {target}"
            elif parts.fragment and path in pages and unquote(parts.fragment) not in pages[path].anchors:
                yield f"{page.path.name}: {target}: no such place in the page"


def foreign(pages: dict[Path, Page]) -> Iterator[str]:
    """List what pages load from other hosts, and what their style sheets and scripts do."""
    for page in pages.values():
        yield from (target for target in page.loaded if urlsplit(target).scheme or urlsplit(target).netloc)
        yield from re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*", page.text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site").resolve()
    built = build(ROOT, out)
    assert built.returncode == 0, built.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return read_pages(site)


def test_every_link_anchor_and_picture_is_there(pages: dict[Path, Page]) -> None:
    assert sum(len(page.links) for page in pages.values()) > 1000
    assert list(broken_links(pages)) == []


def test_nothing_is_asked_of_other_hosts(site: Path, pages: dict[Path, Page]) -> None:
    assert list(foreign(pages)) == []
    for path in [*site.rglob("*.css"), *site.rglob("*.js")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import|fetch\(|importScripts\(|src\s*=)\s*['\"]?(https?:)?//", text), path


def test_every_page_is_in_the_navigation(site: Path, pages: dict[Path, Page]) -> None:
    index = site / "docs" / "index.html"
    tree = pages[index].text.partition('class="sidebar-tree"')[2].partition("</aside>")[0]
    shown = {(index.parent / href).resolve() for href in re.findall(r'href="([^"#]+)', tree)}
    documents = [
        path
        for pattern in ("*.md", "docs/*.md", "docs/*/*.md", "examples/*.md", "experiments/*.md")
        for path in ROOT.glob(pattern)
    ]
    for document in documents:
        page = site / document.relative_to(ROOT).with_suffix(".html")
        assert page == index or page in shown, f"{document} is in no toctree of docs/index.md"


def test_every_public_name_is_in_the_reference(pages: dict[Path, Page]) -> None:
    from building.reference import PUBLIC, homes

    described = set().union(*(page.anchors for page in pages.values() if page.path.parent.name == "api"))
    assert {f"everest.{name}" for name in ("load", "Clip", "pretrain", "get_recipe")} <= set(homes().values())
    assert len(homes()) > 250
    assert [name for name in set(homes().values()) if name not in described] == []
    packages = {path.parent.name for path in (ROOT / "src" / "everest").glob("*/__init__.py")}
    programs = {"bench", "web"}  # are used through commands
    assert packages - {name.rpartition(".")[2] for name in PUBLIC} == programs


def test_every_command_option_and_setting_is_there(site: Path) -> None:
    from building.commands import leaves

    commands, settings = ((site / "docs" / name).read_text() for name in ("commands.html", "api/configuration.html"))
    for parser in leaves(build_parser()):
        part = commands.partition(f"<h2>{parser.prog}<")[2].partition("<h2>")[0]
        assert part, parser.prog
        meanings = [action.help for action in parser._actions]
        assert all(text and not text.startswith("(") for text in meanings), f"{parser.prog}: an option without meaning"
        for option in (name for action in parser._actions for name in action.option_strings):
            assert option in {"-h", "--help"} or f">{option}<" in part.replace(" ", "<"), f"{parser.prog} {option}"
    assert all(f">{recipe.name}<" in commands for recipe in list_recipes())
    for recipe in list_recipes():
        for config in (recipe.pretrain, recipe.finetune):
            for key in () if config is None else flatten(config):
                assert f">{key}<" in settings or key.startswith("evaluation.remote."), key
    assert all(f">{name}<" in settings for kind in (PretrainConfig, FinetuneConfig) for name in kind.model_fields)


@pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium here: apt-get install chromium")
def test_pages_fit_every_window_and_are_searched_without_a_network(site: Path) -> None:
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=list(QUIET))
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for width in (1900, 1700, 1600, 1500, 1320, 1100, 360):
            page.set_viewport_size({"width": width, "height": 800})
            for name in ("index", "commands", "speed", "api/load", "api/configuration"):
                page.goto((site / "docs" / f"{name}.html").as_uri())
                assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (name, width)
        page.goto(f"{(site / 'search.html').as_uri()}?q=shards")
        page.get_by_role("link", name="Packed shards are WebDataset files").wait_for(timeout=20_000)
        page.goto((site / "index.html").as_uri())
        page.wait_for_url("**/docs/index.html")
        browser.close()
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data"}


def test_settings_are_changed_as_their_page_says() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api/configuration.md").read_text(), flags=re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    assert (names["config"].optim.epochs, names["config"].clip.fps) == (40, 8)


def test_mistakes_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "conf.py", tmp_path / "docs")
    shutil.copytree(ROOT / "docs" / "building", tmp_path / "docs" / "building")
    mistakes = ("[a page](nowhere.md)", "[a heading](../README.md#no-heading)", "![a picture](nowhere.jpg)")
    text = "\n\n".join(["# Pages", *mistakes, "{func}`everest.laod`", "```{toctree}\n../README\n```"])
    (tmp_path / "docs" / "index.md").write_text(text)
    (tmp_path / "README.md").write_text("# A page\n\n[Another](docs/index.md#pages)\n")
    (tmp_path / "CHANGELOG.md").write_text("# A page in no toctree\n")
    built = build(tmp_path, tmp_path / "out")
    assert built.returncode != 0
    said = [line for line in built.stderr.splitlines() if "WARNING" in line]
    for mistake in ("nowhere.md", "no-heading", "nowhere.jpg", "everest.laod", "toctree"):
        assert any(mistake in line for line in said), mistake
    assert len(said) == 5, built.stderr


def test_what_the_checks_look_for_is_found(tmp_path: Path) -> None:
    wrong = '<a href="no.html">x</a><a href="#no">x</a><img src="no.jpg"><script src="https://host/x.js"></script>'
    style = '<style>p { background: url("//host/x.png") }</style>'
    (tmp_path / "page.html").write_text(f'<p id="here"></p><a href="#here">x</a>{wrong}{style}')
    pages = read_pages(tmp_path)
    assert len(list(broken_links(pages))) == 3
    assert len(list(foreign(pages))) == 2
