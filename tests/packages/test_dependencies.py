"""Who imports what: nothing optional is imported before somebody asks for it, and every such place is known."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata

import pytest
from wheels import PROJECT, ROOT

SOURCE = ROOT / "src" / "everest"
MODULES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
# Modules that import what an extra installs; each says which extra is missing, or is asked only where none is.
OPTIONAL = {
    "bench/decord_clips.py": {"bench"},
    "datasets/ray_engine.py": {"ray"},
    "datasets/ray_start.py": {"ray"},
    "datasets/ray_worker.py": {"ray"},
    "inference/exporting/huggingface_format.py": {"hf"},
    "inference/exporting/onnx_format.py": {"export"},
    "inference/feature_rows.py": {"features"},
    "inference/probing.py": {"features"},
    "inference/searching.py": {"features"},
    "objectives/transformers_teachers.py": {"hf"},
    "training/trackers.py": {"mlflow", "wandb"},
    "video/optical_flow.py": {"flow"},
    "video/remote.py": {"remote"},
    "video/torchcodec.py": {"torchcodec"},
    "web/app.py": {"ui"},
    "web/guarding.py": {"ui"},
    "web/serving.py": {"ui"},
}
AT_ONCE = {"web/app.py", "web/guarding.py"}  # the one is imported by functions alone, the other by the one
OTHERWISE = {"mlflow": "mlflow-skinny"}  # packages that are called otherwise than what installs them


INSTALLED = metadata.packages_distributions()


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s<>=\[;]", text)[0].lower() for text in requirements}


def imports(node: ast.AST, lazily: bool = False) -> Iterator[tuple[str, bool]]:
    """List what is imported, and whether only when a function is called; what type checkers alone see is left out."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, lazily) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or "", lazily
    elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
        inside = lazily or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from imports(child, inside)


def third_party(module: str, source: str) -> Iterator[tuple[set[str], bool, str]]:
    """List the distributions that each import may come from, whether it waits, and its name."""
    for target, lazily in imports(ast.parse(source)):
        package = target.partition(".")[0]
        if package not in {"everest", *sys.stdlib_module_names}:
            owners = INSTALLED.get(package, [OTHERWISE.get(package, package)])
            yield {owner.lower() for owner in owners}, lazily, f"{module} imports {target}"


def undeclared(module: str, source: str) -> list[str]:
    """List imports that neither the dependencies nor an extra of this module explains, and optional ones at once."""
    always = names_of(PROJECT["dependencies"])
    extras = OPTIONAL.get(module, set())
    optional = {name for extra in extras for name in names_of(PROJECT["optional-dependencies"][extra])}
    found = []
    for owners, lazily, what in third_party(module, source):
        is_optional = bool(owners & optional) and (lazily or module in AT_ONCE)
        if not owners & always and not is_optional:
            found.append(what)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_what_is_imported_without_extras_is_a_dependency(module: str) -> None:
    assert undeclared(module, (SOURCE / module).read_text(encoding="utf-8")) == []


def test_every_extra_and_every_dependency_is_used() -> None:
    assert set().union(*OPTIONAL.values()) == set(PROJECT["optional-dependencies"]) - {"dev", "docs"}
    sources = {module: (SOURCE / module).read_text(encoding="utf-8") for module in MODULES}
    used = {owner for module in MODULES for owners, _, _ in third_party(module, sources[module]) for owner in owners}
    assert names_of(PROJECT["dependencies"]) - used == {"tensorboard"}  # torch.utils.tensorboard imports it


def test_who_imports_the_page_does_so_in_functions() -> None:
    eager = {
        module
        for module in MODULES
        for target, lazily in imports(ast.parse((SOURCE / module).read_text(encoding="utf-8")))
        if target in {"everest.web.app", "everest.web.guarding"} and not lazily
    }
    assert eager == {"web/app.py"}


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("video/optical_flow.py", "def f():\n    import cv2", False),
        ("video/optical_flow.py", "import cv2", True),
        ("video/reader.py", "def f():\n    import cv2", True),
        ("video/reader.py", "import yaml", True),
        ("video/reader.py", "import av\nfrom torch import nn\nimport os", False),
        ("video/reader.py", "if TYPE_CHECKING:\n    import cv2", False),
        ("web/app.py", "from aiohttp import web", False),
    ],
)
def test_an_import_that_nothing_declares_is_found(module: str, source: str, wrong: bool) -> None:
    assert bool(undeclared(module, source)) is wrong
