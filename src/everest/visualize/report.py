"""A report is one HTML file: pictures inside, nothing to download, no script; it opens offline."""

import base64
import io
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal

import jinja2
from PIL import Image

from everest.errors import RunError
from everest.training.files import atomic_write
from everest.visualize.tokens import Picture

TEMPLATE = "report.html.j2"
KINDS = {b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp"}  # by how they begin; all else is JPEG
OURS = b'<meta name="generator" content="EVEREST">'  # in the head of every page
_HEAD_BYTES = 400


FigureSize = Literal["whole", "half", "third"]


@dataclass(frozen=True)
class Figure:
    """A picture with its words.

    Attributes:
        image: PNG, GIF or JPEG bytes.
        caption: Below the picture.
        alt: What the picture shows, for those who do not see it.
        size: Of the page's width; smaller ones stand side by side where there is room.
    """

    image: bytes = field(repr=False)
    caption: str
    alt: str
    size: FigureSize = "whole"

    @property
    def data_uri(self) -> str:
        """The picture as an address that contains it."""
        kind = KINDS.get(self.image[:4], "jpeg")
        return f"data:image/{kind};base64,{base64.b64encode(self.image).decode()}"


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Folded:
    """What few readers need: a line that opens.

    Attributes:
        title: The line.
        tables: Inside.
        lines: Below the tables, as they are.
    """

    title: str
    tables: tuple[Table, ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """A number that a reader looks for first, and what it is of."""

    value: str
    label: str


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        heading: Its name.
        paragraphs: What a reader has to know first.
        notes: What must not be overlooked; framed.
        tables: After the words.
        figures: After the tables.
        folded: After the figures.
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    folded: tuple[Folded, ...] = ()


@dataclass(frozen=True)
class Report:
    """A page of sections. Whatever comes from outside (class names, file names) is escaped.

    Attributes:
        title: Its name.
        subtitle: What it is about, in a line.
        sections: Its parts.
        notes: What must be known before anything is read; framed.
        cards: The numbers that are looked for first.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    cards: tuple[Card, ...] = ()

    def render(self) -> str:
        """Make the page."""
        source = files("everest.visualize").joinpath(TEMPLATE).read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        return environment.from_string(source).render(page=self)

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the page, completely or not at all.

        Args:
            path: The file; its folder must exist.
            overwrite: Replace an older page of ours.

        Raises:
            RunError: The file exists and may not be overwritten, or it is something else than a page of ours.
        """
        if path.exists() and not (overwrite and is_ours(path)):
            raise RunError(f"{path} exists already: choose another name for the report")
        content = self.render().encode("utf-8", "backslashreplace")  # names of files may be no text
        with atomic_write(path) as file:
            file.write(content)


def is_ours(path: Path) -> bool:
    """Whether a file is a page that was made here."""
    try:
        with path.open("rb") as file:
            return OURS in file.read(_HEAD_BYTES)
    except OSError:
        return False


def encode_picture(picture: Picture, kind: Literal["smaller", "png"] = "smaller") -> bytes:
    """Encode a picture [h, w, 3] as PNG, or else as JPEG where it is large."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if kind == "smaller" and picture.size > 300_000:
        image.save(buffer, format="JPEG", quality=88, subsampling=0)
    else:
        image.save(buffer, format="PNG")
    return buffer.getvalue()
