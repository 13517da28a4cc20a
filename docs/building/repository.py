"""Pages for files and folders of the repository that documents link to, so that a link works here as on a code host."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from building.sources import source_files

FOLDER = "repository"
HIDDEN = ("__pycache__",)
MAX_SHOWN_BYTES = 100_000


class LinkToRepository(SphinxTransform):
    """Turns links to files and folders that are no pages into links to pages that show them."""

    default_priority = 400  # before Sphinx takes files that are linked to for downloads

    def apply(self, **_: Any) -> None:
        """Change the links of one document."""
        kinds = (addnodes.pending_xref, addnodes.download_reference)
        for node in [node for kind in kinds for node in self.document.findall(kind)]:
            path = self._path_of(node)
            if path is not None:
                node.replace_self(self._link(path, node))

    def _path_of(self, node: nodes.Element) -> str | None:
        if node.get("reftype") != "myst" or node.get("refdomain"):
            return None
        relative, absolute = self.env.relfn2path(node["reftarget"], self.env.docname)
        is_inside = Path(absolute).resolve().is_relative_to(Path(self.env.srcdir).resolve())
        return str(relative).rstrip("/") if is_inside and Path(absolute).exists() else None

    def _link(self, path: str, node: nodes.Element) -> nodes.Element:
        index = f"{path}/README"
        if index in self.env.found_docs:
            link = addnodes.pending_xref("", refdomain="std", reftype="doc", reftarget=f"/{index}", refexplicit=True)
            link["refdoc"], link["refwarn"] = self.env.docname, True
            return link + node.children
        shown(self.app).add(path)
        uri = self.app.builder.get_relative_uri(self.env.docname, f"{FOLDER}/{path}")
        return nodes.reference("", "", *node.children, refuri=uri, internal=True)


def shown(app: Sphinx) -> set[str]:
    """Name the files and folders that documents link to."""
    if not hasattr(app.env, "everest_shown"):
        app.env.everest_shown = set()  # type: ignore[attr-defined]
    return app.env.everest_shown  # type: ignore[attr-defined, no-any-return]


def repository_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, str], str]]:
    """Make a page for each of them, and for what is in the folders; called by Sphinx when all else is written."""
    pending, done = sorted(shown(app) | source_files()), set[str]()
    while pending:
        path = pending.pop()
        if path in done:
            continue
        done.add(path)
        place = Path(app.srcdir, path)
        if place.is_dir():
            children = [child for child in sorted(place.iterdir()) if child.name not in HIDDEN]
            pending += [f"{path}/{child.name}" for child in children]
            body = _listing(app, path, children)
        else:
            body = _code(place)
        title = html.escape(path)
        yield f"{FOLDER}/{path}", {"title": title, "body": f"<h1><code>{title}</code></h1>\n{body}"}, "page.html"


def _listing(app: Sphinx, path: str, children: list[Path]) -> str:
    items = []
    for child in children:
        uri = app.builder.get_relative_uri(f"{FOLDER}/{path}", f"{FOLDER}/{path}/{child.name}")
        name = html.escape(child.name) + "/" * child.is_dir()
        items.append(f'<li><a href="{html.escape(uri)}"><code>{name}</code></a></li>')
    return f"<ul>{''.join(items)}</ul>"


def _code(place: Path) -> str:
    size = place.stat().st_size
    try:
        text = place.read_text(encoding="utf-8") if size <= MAX_SHOWN_BYTES else ""
    except UnicodeDecodeError:
        text = ""
    if size and not text:
        return f"<p>A file of {size} bytes, which is not shown here.</p>"
    try:
        lexer = get_lexer_for_filename(place.name)
    except ClassNotFound:
        lexer = get_lexer_for_filename("x.sh") if text.startswith("#!") else TextLexer()
    return str(highlight(text, lexer, HtmlFormatter(lineanchors="line")))
