"""Programs that are watched while they run: which addresses they ask for, and what they unpickle."""

import json
import os
import subprocess
import sys
from pathlib import Path

_WATCH = """
import json, os, sys

_LOCAL = ("127.", "localhost", "::1", "0.0.0.0")
_ASKED = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"}
_NAMED = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request"}

def _note(event, what):
    with open(os.environ["EVEREST_WATCHED"], "a") as file:
        file.write(json.dumps([event, str(what)]) + "\\n")
    raise OSError(f"{event} {what}: there is no network here")

def _watch(event, arguments):
    if event in _ASKED:
        address = arguments[1]
        if isinstance(address, tuple) and not str(address[0]).startswith(_LOCAL):
            _note(event, address)
    elif event in _NAMED:
        host = arguments[0]
        if host and not str(host).startswith(_LOCAL):
            _note(event, host)

sys.addaudithook(_watch)
"""


def run_watched(code: str, folder: Path, timeout: float = 300) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run Python code in a process in which asking for any other machine fails and is written down.

    Args:
        code: What to run; so is what it starts with Python.
        folder: Where it runs.
        timeout: In seconds.

    Returns:
        What came of it, and what was asked for.
    """
    hooks, asked = folder / "hooks", folder / "asked.jsonl"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(_WATCH)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "WANDB_", "MLFLOW_"))}
    env |= {"EVEREST_WATCHED": str(asked), "HOME": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    env["PYTHONPATH"] = os.pathsep.join([str(hooks), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )
    lines = asked.read_text().splitlines() if asked.exists() else []
    return done, [" ".join(json.loads(line)) for line in lines]
