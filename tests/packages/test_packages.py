"""What is handed out: the sdist holds the sources and nothing else, and the wheel alone is the whole program."""

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from wheels import PROJECT, ROOT, Built, build, call, install, lend, tracked_files

QUICK = (
    *("clip.height=32", "clip.width=32", "optim.epochs=1", "optim.warmup_epochs=0"),
    *("run.tensorboard=false", "run.report=false"),  # the demo's own report remains
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def programs(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(built.wheel, tmp_path_factory.mktemp("environment") / "venv", PROJECT["dependencies"])


@pytest.fixture(scope="module")
def demo(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where nothing was but what the demo of the wheel wrote there."""
    folder = tmp_path_factory.mktemp("elsewhere")
    out = call(programs / "everest", "demo", *(f"--set={setting}" for setting in QUICK), folder=folder)
    assert "always the most frequent class" in out
    return folder


def test_the_sdist_holds_what_git_knows_and_no_rubbish(built: Built) -> None:
    assert built.sdist_names() == tracked_files() | {"PKG-INFO"}


def test_the_wheel_holds_the_package_with_all_its_data(built: Built) -> None:
    ours = {name.removeprefix("src/") for name in tracked_files() if name.startswith("src/everest/")}
    names = built.wheel_names()
    assert {name for name in names if ".dist-info/" not in name} == ours
    for needed in ("assets/falls/LICENSE", "assets/falls/windows.csv", "visualize/report.html.j2", "py.typed"):
        assert f"everest/{needed}" in names
    assert sum(name.endswith(".mp4") for name in names) == 23
    assert {Path(name).suffix for name in names if "/web/static/" in name} == {".js", ".css", ".html", ".svg"}


def test_both_licences_travel_with_the_wheel(built: Built) -> None:
    metadata = built.metadata()
    assert metadata["License-Expression"] == "Apache-2.0 AND MIT"
    licences = metadata.get_all("License-File", [])
    assert licences == PROJECT["license-files"]
    names = built.wheel_names()
    for licence in licences:
        assert any(name.endswith(f".dist-info/licenses/{licence}") for name in names)


def test_the_metadata_say_what_the_project_says(built: Built) -> None:
    metadata = built.metadata()
    assert (metadata["Name"], metadata["Version"]) == (PROJECT["name"], PROJECT["version"])
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    without_extras = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert without_extras == set(PROJECT["dependencies"])
    assert built.wheel.name == f"everest_video-{PROJECT['version']}-py3-none-any.whl"
    assert f"version: {PROJECT['version']}" in (ROOT / "CITATION.cff").read_text()


def test_the_description_is_the_readme_and_renders(built: Built) -> None:
    metadata = built.metadata()
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    text = metadata.get_payload()
    assert isinstance(text, str)
    assert text.strip() == (ROOT / "README.md").read_text().strip()
    page = MarkdownIt("commonmark").enable("table").render(text)
    assert page.startswith("<h1>EVEREST</h1>")
    assert page.count("<table>") == len(re.findall(r"^\|[-|]+\|$", text, flags=re.M)) > 3
    assert page.count("<pre>") == text.count("\n```") // 2
    assert "```" not in page


def test_everest_comes_from_the_wheel(programs: Path, tmp_path: Path) -> None:
    code = "import everest, everest.cli, torch; print(everest.__file__, everest.__version__)"
    file, version = call(programs / "python", "-c", code, folder=tmp_path).split()
    assert Path(file).is_relative_to(programs.parent)
    assert version == PROJECT["version"]


def test_the_program_answers(programs: Path, tmp_path: Path) -> None:
    everest = programs / "everest"
    assert "demo" in call(everest, "--help", folder=tmp_path)
    assert call(everest, "--version", folder=tmp_path) == f"everest {PROJECT['version']}\n"
    no_compiler = {"PATH": str(programs)}  # trying one takes longer than all the rest
    doctor = call(everest, "doctor", "--json", folder=tmp_path, variables=no_compiler)
    findings = {finding["name"]: finding for finding in json.loads(doctor)}
    assert findings["decoding"]["ok"] is True
    recipes = json.loads(call(everest, "recipe", "list", "--json", folder=tmp_path))
    assert {"demo", "own", "ucf101"} <= {recipe["name"] for recipe in recipes}
    assert list(tmp_path.iterdir()) == []


def test_the_demo_runs_and_its_classifier_predicts(programs: Path, demo: Path) -> None:
    metrics = json.loads((demo / "runs" / "demo-1" / "metrics.json").read_text())
    assert [values["num_clips"] for values in metrics["evaluation"].values()] == [33, 33]
    assert metrics["environment"]["packages"]["everest"] == PROJECT["version"]
    assert metrics["environment"]["everest_git"] is None
    assert "TRUE statistics" in (demo / "runs" / "demo-1" / "report.html").read_text()
    assert [path.name for path in demo.iterdir()] == ["runs"]
    (clip,) = programs.parent.rglob("Subject1_Fall_13.mp4")
    run = demo / "runs" / "demo-1" / "finetune"
    (row,) = json.loads(call(programs / "everest", "predict", run, clip, "--json", folder=demo))
    assert {c["name"] for c in row["classes"]} == {"bend", "fall", "lie", "sit", "stand_or_walk"}


def test_all_modules_but_the_page_need_only_what_is_declared(programs: Path, tmp_path: Path) -> None:
    """The environment holds the dependencies that are not optional, and what they need; the page waits for an extra."""
    code = """
import importlib, json, pkgutil, sys, everest
missing = {}
for module in pkgutil.walk_packages(everest.__path__, "everest."):
    if module.name != "everest.__main__":
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            missing[module.name] = error.name
print(json.dumps(missing))
"""
    assert json.loads(call(programs / "python", "-c", code, folder=tmp_path)) == {
        "everest.web.app": "aiohttp",
        "everest.web.guarding": "aiohttp",
    }


def test_what_is_optional_names_its_extra(programs: Path, demo: Path) -> None:
    """In one line, where the environment holds nothing that is optional."""
    run = demo / "runs" / "demo-1" / "finetune"
    commands: dict[str, tuple[str | Path, ...]] = {
        "ui": ("ui",),
        "features": ("embed", run, "bundled", "--out", "features.parquet"),
        "export": ("export", run, "--onnx", "model.onnx"),
        "flow": ("data", "flow", "bundled", "--out", "flow"),
        "ray": ("data", "check", "bundled", "--engine", "ray"),
        "remote": ("data", "check", "https://127.0.0.1:9/packed"),
    }
    assert set(commands) < set(PROJECT["optional-dependencies"])
    program = """
import json, sys
from everest.cli import main
sys.exit(2 if all(main(command) == 2 for command in json.loads(sys.argv[1])) else 1)
"""
    words = json.dumps(list(commands.values()), default=str)
    lines = call(programs / "python", "-c", program, words, folder=demo, code=2).splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    for extra, line in zip(commands, errors, strict=True):
        assert f"pip install 'everest-video[{extra}]'" in line


def test_the_page_is_served_with_its_extra(programs: Path, tmp_path: Path) -> None:
    lend(tmp_path / "extra", PROJECT["optional-dependencies"]["ui"])
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "extra")}
    command = [str(programs / "everest"), "ui", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
            assert found
            for path, beginning in (
                ("/", b"<!doctype html>"),
                ("/page.js", b'"use strict";'),
                ("/api/examples/0.png", b""),
            ):
                with urllib.request.urlopen(found[0] + path, timeout=60) as answer:
                    assert answer.read().lower().startswith(beginning)
        finally:
            server.terminate()
