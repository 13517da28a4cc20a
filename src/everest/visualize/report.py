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
KINDS = {b"\x89PNG": "png", b"GIF8": "gif"}  # by how they begin; all else is JPEG


@dataclass(frozen=True)
class Figure:
    """A picture with its words.

    Attributes:
        image: PNG, GIF or JPEG bytes.
        caption: Below the picture.
        alt: What the picture shows, for those who do not see it.
    """

    image: bytes = field(repr=False)
    caption: str
    alt: str

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
class Section:
    """One part of a report.

    Attributes:
        heading: Its name.
        paragraphs: What a reader has to know first.
        notes: What must not be overlooked; framed.
        tables: After the words.
        figures: After the tables.
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Report:
    """A page of sections. Whatever comes from outside (class names, file names) is escaped."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]

    def render(self) -> str:
        """Make the page."""
        source = files("everest.visualize").joinpath(TEMPLATE).read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        return environment.from_string(source).render(title=self.title, subtitle=self.subtitle, sections=self.sections)

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the page, completely or not at all.

        Raises:
            RunError: The file exists and may not be overwritten.
        """
        if path.exists() and not overwrite:
            raise RunError(f"{path} exists already: choose another name for the report")
        with atomic_write(path) as file:
            file.write(self.render().encode())


def encode_picture(picture: Picture, kind: Literal["smaller", "png"] = "smaller") -> bytes:
    """Encode a picture [h, w, 3] as PNG, or else as JPEG where it is large."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if kind == "smaller" and picture.size > 300_000:
        image.save(buffer, format="JPEG", quality=88, subsampling=0)
    else:
        image.save(buffer, format="PNG")
    return buffer.getvalue()
