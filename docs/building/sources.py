"""Where the source of a public name stands: what the links beside descriptions lead to."""

import functools
import inspect
from pathlib import Path

import everest
from building.reference import homes, locate

PACKAGE = Path(everest.__file__).parent
UP = "../.."  # from docs/api, where all descriptions are


def source_link(domain: str, info: dict[str, str]) -> str | None:
    """Name the page and line of a function, class or method; called by Sphinx for each."""
    found = find(".".join(filter(None, [info["module"], info["fullname"]])) if domain == "py" else "")
    return None if found is None else f"{UP}/repository/{found[0]}.html#line-{found[1]}"


def source_files() -> set[str]:
    """List the files that define public names."""
    return {found[0] for found in map(find, homes().values()) if found is not None}


def find(name: str) -> tuple[str, int] | None:
    """Find the file, relative to the repository, and the line of a name; None of a constant."""
    value = inspect.unwrap(locate(name)) if name else None
    value = value.fget if isinstance(value, property) else value
    value = value.func if isinstance(value, functools.cached_property) else value
    if not (inspect.isclass(value) or inspect.isfunction(value) or inspect.ismethod(value)):
        return None
    try:
        path, line = Path(inspect.getfile(value)), inspect.getsourcelines(value)[1]
    except (OSError, TypeError):  # made by a decorator, as __init__ of a dataclass is
        return None
    return (f"src/everest/{path.relative_to(PACKAGE).as_posix()}", line) if path.is_relative_to(PACKAGE) else None
