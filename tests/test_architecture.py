"""The rules of the source tree: who may import whom, how long things may be, and what is never written."""

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import everest.errors

ROOT = Path(everest.errors.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

# Data flows from left to right; a module imports from folders to its left, and from its own.
FOLDERS = (
    "video",
    "datasets",
    "tokens",
    "models",
    "objectives",
    "training",
    "evaluation",
    "inference",
    "visualize",
    "bench",
    "recipes",
    "history",
    "reports",
    "web",
)
# May be imported by all, and import nothing but each other.
FREE = ("config", "draws", "errors", "hashing", "links", "process", "settings", "texts")
TOP = len(FOLDERS)  # everest/__init__.py, cli.py, demo.py, doctor.py: may import everything
OTHERWISE = {"mlflow": "mlflow-skinny"}  # optional packages that are called otherwise than what installs them
PICKLES = ("pickle", "_pickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "runpy", "shelve")
# Calls that run code from files or write where a file says; those with a keyword are harmless with this value of it.
RUNNING: dict[str, tuple[str, bool] | None] = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__", "os.system", "os.popen", "shutil.unpack_archive")),
    **dict.fromkeys(("torch.jit.load", "torch.hub.load", "torch.serialization.add_safe_globals")),
    **dict.fromkeys(("yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle", "pd.read_pickle")),
    "torch.load": ("weights_only", True),
    **dict.fromkeys(("np.load", "numpy.load"), ("allow_pickle", False)),
    "jinja2.Environment": ("autoescape", True),
}
UNPACKING = ("extract", "extractall")  # of archives, whatever they are called
NEVER = {"shell": True, "trust_remote_code": True, "weights_only": False, "allow_pickle": True, "autoescape": False}
# Modules that write where a user says and nowhere else, so that a link there is the user's.
WRITTEN_BY_USERS = ("bench/growth.py", "commands.py", "commands_runs.py")
NAMED_BY_USERS = ("__init__.py", "bench/foreign.py")  # modules that import what is named elsewhere: lazily, --peer
HEAVY = (
    *("accelerate", "cv2", "matplotlib", "mlflow", "onnx", "onnxruntime", "onnxscript", "ray", "tensorboard"),
    *("torch.utils.tensorboard", "transformers", "wandb"),
)

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_TOKENS_LINES = 400


def rank(dotted: str) -> int:
    """Place a module of the package, such as ``everest.tokens.grid``, in the order of imports."""
    parts = dotted.split(".")
    if len(parts) == 1:
        return TOP
    if parts[1] in FREE:
        return -1
    return FOLDERS.index(parts[1]) if parts[1] in FOLDERS else TOP


def dotted_name(module: str) -> str:
    """Turn ``tokens/grid.py`` into ``everest.tokens.grid``."""
    parts = ["everest", *Path(module).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """List every imported module with its line, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            # `from everest import tokens` imports a folder; elsewhere the module is what matters
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "everest" else [base]
            yield from ((name, node.lineno) for name in names)


def upward_imports(tree: ast.AST, name: str) -> list[str]:
    """List the imports that point to the right of module ``name``, and relative ones."""
    found = []
    for target, line in imported(tree):
        ours = target == "everest" or target.startswith("everest.")
        if target.startswith(".") or (ours and rank(target) > rank(name)):
            found.append(f"{name}:{line} imports {target}")
    return found


def eager_imports(tree: ast.Module) -> list[str]:
    """List the heavy packages that importing the module would load."""
    found = []
    pending: list[ast.AST] = [*tree.body]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [
                target
                for target, _ in imported(node)
                if any(target == heavy or target.startswith(f"{heavy}.") for heavy in HEAVY)
            ]
        pending += ast.iter_child_nodes(node)
    return found


def running(node: ast.Call) -> list[str]:
    """Say what a call may run or write that a file names."""
    called = ast.unparse(node.func)
    given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
    found = [f"{name}={value}" for name, value in NEVER.items() if given.get(name) is value]
    if called in RUNNING:
        needed = RUNNING[called]
        found += [called] if needed is None or given.get(needed[0]) is not needed[1] else []
    is_method = isinstance(node.func, ast.Attribute) and node.func.attr in UNPACKING
    return found + ([called] if is_method else [])


def dangers(tree: ast.AST) -> list[str]:
    """List calls that run code from files, and handlers that hide errors."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += [f"line {node.lineno}: {problem}" for problem in running(node)]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names}  # the error class alone is needed to catch it
            if any(target in PICKLES for target, _ in imported(node)) and names != {"UnpicklingError"}:
                found.append(f"line {node.lineno}: pickle")
        elif isinstance(node, ast.ExceptHandler):
            caught = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {""}
            last = node.body[-1]
            tidies_up = isinstance(last, ast.Raise) and last.exc is None
            if caught & {"", "Exception", "BaseException"} and not tidies_up:
                found.append(f"line {node.lineno}: broad except")
    return found


def writing_through_links(tree: ast.AST) -> list[str]:
    """List calls that write to a file, and would to the one that a link leads to."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            is_method = isinstance(node.func, ast.Attribute)
            called, place = ast.unparse(node.func).rpartition(".")[2], 0 if is_method else 1
            given = {k.arg: k.value for k in node.keywords}
            mode = node.args[place] if len(node.args) > place else given.get("mode")
            is_text = isinstance(mode, ast.Constant) and isinstance(mode.value, str)
            writes = called == "open" and is_text and set(mode.value) & set("wax+") and "opener" not in given
            if (is_method and called in {"write_text", "write_bytes"}) or writes:
                found.append(f"line {node.lineno}: {ast.unparse(node.func)}, see everest.links")
    return found


def long_functions(tree: ast.AST) -> list[str]:
    """List functions whose body, without the docstring, is too long."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            if length > MAX_FUNCTION_LINES:
                found.append(f"{node.name}: {length} lines")
    return found


def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_to_the_left(module: str) -> None:
    assert upward_imports(parsed(module), dotted_name(module)) == []


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_wait_until_they_are_needed(module: str) -> None:
    assert eager_imports(parsed(module)) == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_runs_code_from_files_or_hides_errors(module: str) -> None:
    assert dangers(parsed(module)) == []


@pytest.mark.parametrize("module", [module for module in MODULES if module not in WRITTEN_BY_USERS])
def test_nothing_writes_through_links(module: str) -> None:
    assert writing_through_links(parsed(module)) == []


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_imported_by_name(module: str) -> None:
    """What is imported stands in the source, but for what a user names on the command line."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            assert isinstance(node.args[0], ast.Constant) or module in NAMED_BY_USERS


@pytest.mark.parametrize("module", MODULES)
def test_pages_are_made_by_templates(module: str) -> None:
    """Which escape what users wrote, as strings that are put together do not."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not re.search(r"<(html|body|svg|script|table|div|img)\b", node.value, re.IGNORECASE), node.lineno


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_readable(module: str) -> None:
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    assert long_functions(parsed(module)) == []


def test_only_declared_dependencies_are_imported() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [text for name, texts in project["optional-dependencies"].items() if name != "dev" for text in texts]
    declared = {re.split(r"[\s<>=\[]", text)[0] for text in project["dependencies"] + optional}
    distributions = metadata.packages_distributions()
    for module in MODULES:
        for target, line in imported(parsed(module)):
            package = target.split(".")[0]
            if package not in {"everest", *sys.stdlib_module_names}:
                owners = {name.lower() for name in distributions.get(package, [OTHERWISE.get(package, package)])}
                assert owners & declared, f"{module}:{line} imports {package}, which pyproject.toml does not name"


def test_every_folder_has_its_place_in_the_order() -> None:
    folders = {Path(module).parts[0] for module in MODULES if "/" in module}
    assert folders <= {*FOLDERS, *FREE}


def test_the_method_can_be_read_in_one_sitting() -> None:
    lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "tokens").glob("*.py")]
    assert 0 < sum(lines) < MAX_TOKENS_LINES


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("everest.tokens.grid", "from everest.models.zoo import SIZES", True),
        ("everest.tokens.grid", "def f():\n    import everest.models", True),
        ("everest.tokens.grid", "from everest import models", True),
        ("everest.tokens.grid", "import everest", True),
        ("everest.tokens.grid", "from . import motion", True),
        ("everest.config", "from everest.video.clip import Clip", True),
        ("everest.recipes.demo", "from everest.cli import main", True),
        ("everest.tokens.grid", "from everest.tokens.scores import f", False),
        ("everest.tokens.grid", "from everest.errors import ConfigError\nimport torch", False),
        ("everest.models.zoo", "from everest.tokens import TokenGrid", False),
        ("everest.cli", "from everest import doctor, recipes\nimport everest.demo", False),
    ],
)
def test_an_upward_import_is_found(name: str, source: str, wrong: bool) -> None:
    assert bool(upward_imports(ast.parse(source), name)) is wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("import accelerate", True),
        ("class A:\n    from matplotlib import pyplot", True),
        ("from torch.utils.tensorboard import SummaryWriter", True),
        ("def f():\n    import accelerate", False),
        ("if TYPE_CHECKING:\n    from accelerate import Accelerator", False),
        ("import torch.utils.data", False),
    ],
)
def test_an_eager_import_is_found(source: str, wrong: bool) -> None:
    assert bool(eager_imports(ast.parse(source))) is wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=False)", True),
        ("torch.load(path, weights_only=True)", False),
        ("eval(text)", True),
        ("model.eval()", False),
        ("module.compile()", False),
        ("np.load(path)", True),
        ("np.load(path, allow_pickle=False)", False),
        ("numpy.load(path, allow_pickle=True)", True),
        ("yaml.load(text)", True),
        ("yaml.safe_load(text)", False),
        ("subprocess.run(line, shell=True)", True),
        ("subprocess.run(words)", False),
        ("tar.extractall(folder)", True),
        ("tar.extractfile(member)", False),
        ("Model.from_pretrained(name, trust_remote_code=True)", True),
        ("jinja2.Environment()", True),
        ("jinja2.Environment(autoescape=True)", False),
        ("import joblib", True),
        ("import pickle", True),
        ("from pickle import loads", True),
        ("from pickle import UnpicklingError", False),
        ("try:\n    f()\nexcept:\n    pass", True),
        ("try:\n    f()\nexcept (OSError, Exception):\n    pass", True),
        ("try:\n    f()\nexcept OSError:\n    pass", False),
        ("try:\n    f()\nexcept BaseException:\n    file.close()\n    raise", False),
    ],
)
def test_a_danger_is_found(source: str, wrong: bool) -> None:
    assert bool(dangers(ast.parse(source))) is wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("path.write_text(text)", True),
        ("path.with_name(name).write_bytes(content)", True),
        ("path.open('a', encoding='utf-8')", True),
        ("path.open(mode='wb')", True),
        ("open(path, 'r+')", True),
        ("open(path, 'a', opener=open_itself)", False),
        ("open(path, 'rb')", False),
        ("path.open()", False),
        ("write_text(path, text)", False),
    ],
)
def test_writing_through_a_link_is_found(source: str, wrong: bool) -> None:
    assert bool(writing_through_links(ast.parse(source))) is wrong


def test_a_long_function_is_found() -> None:
    body = "    pass\n" * (MAX_FUNCTION_LINES + 1)
    assert long_functions(ast.parse(f"def f():\n{body}")) == ["f: 61 lines"]
    assert long_functions(ast.parse(f'def f():\n    """{body}"""\n    return 1')) == []


def test_no_two_files_of_tests_have_one_name() -> None:
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []  # pytest imports them by it
