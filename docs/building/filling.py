"""Fills places of Markdown pages in from the code, while they are read.

A place is a line such as ``<!-- public everest.video: Clip read_clip -->``, which a code host does not show.
"""

import re
from collections.abc import Callable

from building.commands import command_pages, recipe_table
from building.reference import public_entries
from building.settings import settings_entries


def other_pages(pattern: str) -> str:
    """Put the pages whose names fit a pattern into the navigation, under the page itself."""
    return "\n".join(["```{toctree}", ":glob:", ":hidden:", "", pattern, "```"])


MAKERS: dict[str, Callable[[str], str]] = {
    "commands": command_pages,
    "recipes": recipe_table,
    "pages": other_pages,
    "public": public_entries,
    "settings": settings_entries,
}
PLACE = re.compile(rf"^<!-- ({'|'.join(MAKERS)})(?: (.*?))? -->$", re.M)


def fill_places(app: object, docname: str, source: list[str]) -> None:
    """Write what belongs there into every place of a page; called by Sphinx when it has read the page."""
    del app, docname
    source[0] = PLACE.sub(lambda place: MAKERS[place[1]](place[2] or ""), source[0])
