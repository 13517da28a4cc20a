"""The page of settings: keys, types, defaults and meanings, as the classes of ``everest.config`` have them."""

import inspect
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import everest
from building.reference import linked_pages
from everest.config import CheckpointInfo, Config, FinetuneConfig, PretrainConfig, TrainConfig

BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "none"}
ATTRIBUTE = re.compile(r"^    ([\w, ]+): (.*)$")


def settings_entries(_: str = "") -> str:
    """Describe every group of settings, then the classes of whole runs, as reStructuredText inside Markdown."""
    groups: dict[type[Config], list[str]] = {}
    for kind in (PretrainConfig, FinetuneConfig):
        for prefix, group in groups_of(kind):
            places = groups.setdefault(group, [])
            places += [prefix] if prefix not in places else []
    parts = [_section(places, group) for group, places in groups.items()]
    whole = [_entry(kind, _table("", kind)) for kind in (TrainConfig, PretrainConfig, FinetuneConfig, CheckpointInfo)]
    base = _entry(Config, [])
    return "\n\n".join([*parts, "## Whole runs", _fenced([*base, *(line for lines in whole for line in lines)])])


def groups_of(kind: type[Config], prefix: str = "") -> Iterator[tuple[str, type[Config]]]:
    """List the groups of settings inside a configuration, by the dotted beginning of their keys."""
    for name, field in kind.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Config):
            yield f"{prefix}{name}", group
            yield from groups_of(group, f"{prefix}{name}.")


def _section(places: list[str], group: type[Config]) -> str:
    heading = " and ".join(f"`{place}`" for place in places)
    return f"## {heading}\n\n{_fenced(_entry(group, _table(f'{places[0]}.', group)))}"


def _fenced(lines: list[str]) -> str:
    return "\n".join(["````{eval-rst}", *lines, "````"])


def _entry(kind: type[Config], table: list[str]) -> list[str]:
    summary = inspect.cleandoc(kind.__doc__ or "").partition("\nAttributes:")[0].strip().splitlines()
    public = f"everest.{kind.__name__}" if kind.__name__ in everest.__all__ else f"everest.config.{kind.__name__}"
    head = [f".. py:class:: {public}", f"   :canonical: {kind.__module__}.{kind.__name__}"]
    return ["", *head, *(f"   {line}" for line in ["", *summary, "", *table])]


def _table(prefix: str, kind: type[Config]) -> list[str]:
    meanings = meanings_of(kind)
    rows = [".. list-table::", "   :header-rows: 1", "   :widths: 34 22 44", "   :class: settings", ""]
    rows += ["   * - Setting", "     - Values, default", "     - Meaning"]
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config) and prefix:
            continue  # has a section of its own
        meaning = linked_pages(meanings.get(name, ""))
        rows += [f"   * - ``{prefix}{name}``", f"     - {type_of(field)}; {default_of(field)}", f"     - {meaning}"]
    return rows


def meanings_of(kind: type[Config]) -> dict[str, str]:
    """Read what the docstring of a class says of each setting; of a class without such a section, what is known."""
    lines = inspect.cleandoc(kind.__doc__ or "").partition("\nAttributes:\n")[2].splitlines()
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        found = ATTRIBUTE.match(line)
        if found:
            names = found[1].split(", ")
            meanings.update(dict.fromkeys(names, found[2]))
        else:
            meanings.update({name: f"{meanings[name]} {line.strip()}" for name in names})
    for name, field in kind.model_fields.items():
        if name not in meanings and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            meanings[name] = f":class:`everest.config.{field.annotation.__name__}`"
    return meanings


def type_of(field: FieldInfo) -> str:
    """Say in words what a setting takes."""
    bounds = [_bound(item) for item in field.metadata]
    return ", ".join([in_words(field.annotation), *filter(None, bounds)])


def _bound(item: Any) -> str:
    found = [text.format(f"{getattr(item, name):g}") for name, text in BOUNDS.items() if hasattr(item, name)]
    return " and ".join(found)


def in_words(kind: Any) -> str:
    """Say in words what values a type has."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        bounds = [bound for item in arguments[1:] for part in _parts(item) if (bound := _bound(part))]
        return ", ".join([in_words(arguments[0]), *bounds])
    if origin is Literal:
        return ", ".join(f"``{value}``" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(argument) for argument in arguments)
    if origin is tuple:
        count = "any number of" if arguments[-1] is Ellipsis else f"{len(arguments)}, each"
        return f"{count}: {in_words(arguments[0])}"
    return NAMES.get(kind) or f"a group, :class:`everest.config.{kind.__name__}`"


def _parts(item: Any) -> list[Any]:
    return list(item.metadata) if isinstance(item, FieldInfo) else [item]


def default_of(field: FieldInfo) -> str:
    """Say what a setting is where no recipe says otherwise."""
    if field.is_required():
        return "**set by the recipe**"
    value = field.default
    if isinstance(value, Config):
        return "its defaults"
    shown = {True: "true", False: "false", None: "none"}.get(value) if isinstance(value, bool | None) else None
    text = shown or (",".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return f"**{text}**" if text else "**empty**"
