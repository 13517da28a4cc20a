"""A server of the page as a process of its own, and a real browser that looks at it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Page


@contextmanager
def serving(folder: Path, checkpoints: Sequence[Path]) -> Iterator[str]:
    """Run ``everest ui`` on a free port with a folder for its passing files; gives the address."""
    command = [sys.executable, "-m", "everest", "ui", *map(str, checkpoints), "--port", "0", "--device", "cpu"]
    environment = {"TMPDIR": str(folder), "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "PATH": ""}
    with subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            found = re.match(r"everest ui: (http://127\.0\.0\.1:\d+)", server.stdout.readline())
            assert found
            yield found[1]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    assert server.returncode == 0


class Person:
    """Somebody in front of the page, in a browser that shares nothing with others.

    Attributes:
        hosts: Whom the page has asked for anything.
        problems: What the browser says of the page: errors of scripts, what its policy forbids.
    """

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.hosts: set[str] = set()
        self.problems: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda line: self.problems.append(line.text) if line.type == "error" else None)
        self.page.goto(address)
        self.page.wait_for_selector("body[data-ready]")

    def upload(self, name: str, content: bytes) -> None:
        """Choose a file."""
        file = {"name": name, "mimeType": "video/mp4", "buffer": content}
        self.page.set_input_files("#file", file)  # type: ignore[arg-type]

    def upload_and_wait(self, name: str, content: bytes) -> None:
        """Choose a file and wait for what is made of it."""
        self.page.evaluate("delete document.body.dataset.thinking")
        self.upload(name, content)
        self.wait()

    def wait(self) -> None:
        """Wait until everything is shown that was asked for."""
        self.page.wait_for_selector("body[data-thinking=false]")

    def keep(self, share: float) -> None:
        """Move the slider as a mouse does, without waiting."""
        moved = "slider.value = share; slider.dispatchEvent(new Event('input'));"
        asked = "document.body.dataset.thinking = 'asked';"
        self.page.locator("#ratio").evaluate(f"(slider, share) => {{ {asked} {moved} }}", share)

    def choose(self, selector: str) -> None:
        """Click on something and wait for what changes."""
        self.page.evaluate("document.body.dataset.thinking = 'asked'")
        self.page.click(selector)
        self.wait()

    def text(self, name: str) -> str:
        """The words of a part of the page."""
        return self.page.inner_text(f"#{name}")

    def kept(self) -> str:
        """The picture of the kept tokens of all slots."""
        drawn = "rows => [...rows[1].children].map(canvas => canvas.toDataURL()).join()"
        picture: str = self.page.eval_on_selector_all("#slots .row", drawn)
        return picture

    def seen(self) -> tuple[str, ...]:
        """Everything that a person would compare."""
        return (self.text("title"), self.text("share"), self.text("change"), self.text("classes"), self.kept())
