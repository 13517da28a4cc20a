"""The browser of the machine, for tests of what is shown in one."""

import shutil

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")


def find_browser() -> str | None:
    """The browser of this machine; None where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)
