"""The reference of Python names: which are public, where each is described, and what references to them mean."""

import ast
import importlib
import inspect
import re
import sys
from functools import cache
from itertools import pairwise
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from everest.config import Config

# In this order a name that several of them have is called by the first.
PUBLIC = (
    *("everest", "everest.errors", "everest.config", "everest.settings", "everest.video", "everest.datasets"),
    *("everest.tokens", "everest.models", "everest.models.weights", "everest.models.supervised"),
    *("everest.objectives", "everest.training", "everest.evaluation", "everest.inference", "everest.recipes"),
    *("everest.history", "everest.reports", "everest.visualize"),
)
OURS = {"__version__", "AnyConfig", "is_lost_connection", "is_out_of_memory", "nearest"}  # public in name only
ROLE = re.compile(r":(func|class|meth|mod|attr|data|exc):`(~?)([\w.]+)`")


def names_of(module: str) -> list[str]:
    """List the public names of a module: those of ``__all__``, or what it defines."""
    found = importlib.import_module(module)
    own = [name for name, value in vars(found).items() if getattr(value, "__module__", None) == module]
    names = sorted(getattr(found, "__all__", [])) or [name for name in own if not name.startswith("_")]
    return [name for name in names if name not in OURS]


@cache
def homes() -> dict[str, str]:
    """Say for every public name, such as ``everest.video.Clip``, as what it is described: ``everest.Clip``."""
    called: dict[int, str] = {}
    found = {}
    for module in PUBLIC:
        for name in names_of(module):
            value = getattr(importlib.import_module(module), name)
            is_named = inspect.isclass(value) or inspect.isfunction(value)
            found[f"{module}.{name}"] = (
                called.setdefault(id(value), f"{module}.{name}") if is_named else _plain(module, name, found)
            )
    return found


def _plain(module: str, name: str, found: dict[str, str]) -> str:
    """Find a constant or an alias of a type, which do not know where they come from, by its name."""
    value = getattr(importlib.import_module(module), name)
    for known in found.values():
        if known.endswith(f".{name}") and locate(known) is value:
            return known
    return f"{module}.{name}"


@cache
def _by_identity() -> dict[int, str]:
    return {id(locate(home)): home for home in homes().values()}


def locate(dotted: str) -> Any:
    """Import what a dotted name means; None where there is no such thing."""
    parts = dotted.split(".")
    # A function hides a module of its name: everest.evaluation.evaluate is what the package offers under it.
    for end in [*range(len(parts) - 1, 0, -1), len(parts)]:
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            is_field = part in getattr(found, "__annotations__", {}) and not hasattr(found, part)
            found = inspect.Parameter.empty if is_field else getattr(found, part, None)
        if found is not None:
            return found
    return None


def public_entries(asked: str) -> str:
    """Describe public names: a table of them, then each.

    Args:
        asked: A module, and the names in it where not all are meant, or those that are not with a minus before them:
            ``everest.video``, ``everest: load embed``, ``everest.inference: -Predictor``.
    """
    module, _, some = asked.partition(":")
    left_out = {name.removeprefix("-") for name in some.split() if name.startswith("-")}
    wanted = [name for name in names_of(module) if name not in left_out] if left_out else some.split()
    chosen = [homes()[f"{module}.{name}"] for name in wanted or names_of(module)]
    chosen = [name for name in dict.fromkeys(chosen) if not _is_setting(locate(name))]
    if not wanted or left_out:  # what belongs to another page is described there
        chosen = [name for name in chosen if name.rpartition(".")[0] in {module, "everest"}]
    table = [".. list-table::", "   :widths: 35 65", "   :class: names", ""]
    table += [line for name in chosen for line in (f"   * - :py:obj:`~{name}`", f"     - {_summary(name)}")]
    entries = [line for name in chosen for line in _entry(name)]
    return "\n".join(["````{eval-rst}", *table, "", *entries, "````"])


def _is_setting(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Config)


def _entry(name: str) -> list[str]:
    value = locate(name)
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        return [f".. {kind}:: {name}", "   :members:", "   :show-inheritance:" * (kind == "autoexception"), ""]
    if inspect.isfunction(value):
        return [f".. autofunction:: {name}", ""]
    module, text = described(*name.rsplit(".", 1))
    return [f".. py:data:: {name}", f"   :canonical: {module}.{name.rpartition('.')[2]}", "", f"   {text}", ""]


def _summary(name: str) -> str:
    """Take the first sentence of what a name says of itself."""
    value = locate(name)
    is_described = inspect.isclass(value) or inspect.isfunction(value)
    text = inspect.getdoc(value) if is_described else described(*name.rsplit(".", 1))[1]
    first = re.split(r"(?<=[.])\s+(?=[A-Z`])|\n\n", text or "")[0]
    return ROLE.sub(lambda role: f"``{role[3]}``", " ".join(first.split()))


def described(module: str, name: str) -> tuple[str, str]:
    """Find where a constant is made, and the text under it there, which Sphinx does not look for behind an import."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return described(str(node.module), name)
    for node, after in pairwise(tree.body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if name in {target.id for target in targets if isinstance(target, ast.Name)} and is_text:
            return module, " ".join(str(after.value.value).split())
    raise ExtensionError(f"{module}.{name} is public and says nothing of itself: write a docstring under it")


def complete_references(*event: Any) -> None:
    """Give names in a docstring the module in which they stand; called by Sphinx for every docstring."""
    *_, obj, _, lines = event
    module = obj.__name__ if inspect.ismodule(obj) else getattr(obj, "__module__", None)
    owner = getattr(obj, "__qualname__", "").rpartition(".")[0] or getattr(obj, "__qualname__", "")

    def complete(found: re.Match[str]) -> str:
        role, short, target = found.groups()
        for candidate in (f"{module}.{target}", f"{module}.{owner}.{target}"):
            if not target.startswith("everest.") and module in sys.modules and locate(candidate) is not None:
                return f":{role}:`{target} <{candidate}>`"
        return f":{role}:`{short}{target}`"

    lines[:] = [linked_pages(ROLE.sub(complete, line)) for line in lines]


def skip_unsaid(*event: Any) -> bool | None:
    """Leave out fields of named tuples, of which Python says their number only; called by Sphinx."""
    *_, obj, _, _ = event
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def linked_pages(text: str) -> str:
    """Make links of the pages that a docstring names: ``docs/weights.md``."""
    return re.sub(r"(?<!`)docs/([\w-]+)\.md", r":doc:`/docs/\1`", text)


def shorten_defaults(*event: Any) -> tuple[str, str] | None:
    """Leave out of a signature what tells nobody anything; called by Sphinx.

    A field that a dataclass makes has no default to be shown, and a protocol is never called.
    """
    *_, obj, _, signature, returned = event
    if getattr(obj, "_is_protocol", False) and inspect.isclass(obj):
        return "", ""
    return (re.sub(r"<factory>", "...", signature), returned) if signature else None


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element) -> nodes.Element | None:
    """Find what a reference means that Sphinx does not know by this name.

    A public name leads to its description, under whatever name. A name of the package that is not public stays text:
    it exists, but is not for users. Anything else is a mistake, and stays one.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    for candidate in _candidates(target, node.get("py:module") or ""):
        value = locate(candidate)
        if value is None:
            continue
        known, member = homes().get(candidate) or _by_identity().get(id(value)), ""
        if not known:
            owner, _, member = candidate.rpartition(".")
            known = _by_identity().get(id(locate(owner)))
        domain = env.domains.python_domain
        full = ".".join(filter(None, [known, member])) if known else ""
        if full and full != target and full in domain.objects:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, contnode)
        return contnode
    return None


def _candidates(target: str, module: str) -> list[str]:
    if target.startswith("everest"):
        return [target]
    return [f"{place}.{target}" for place in dict.fromkeys([module, *PUBLIC]) if place]
