"""The page in a real browser: what a person does, and sees. Skipped where there is no Chromium."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
pytest.importorskip("aiohttp")

from browsing import Person, serving
from PIL import Image
from playwright.sync_api import Browser, Route, sync_playwright

from browsers import QUIET, find_browser
from everest.datasets import load_data

CLIPS = sorted({record.path for record in load_data("bundled").records})
EXECUTABLE = find_browser()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def server(checkpoints: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("uploads")
    with serving(folder, checkpoints) as address:
        yield address, folder
    assert list(folder.glob("everest*")) == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def people(browser: Browser, server: tuple[str, Path]) -> Iterator[list[Person]]:
    """Two people with the page open; whatever they do, nobody else is asked for anything, and nothing breaks."""
    contexts = [
        browser.new_context(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce") for _ in range(2)
    ]
    for context in contexts:
        context.set_default_timeout(20_000)
    people = [Person(context, server[0]) for context in contexts]
    yield people
    for context in contexts:
        context.close()
    for person in people:
        assert person.hosts <= {server[0].removeprefix("http://"), ""}  # "": pictures inside answers
        assert [problem for problem in person.problems if "status of 422" not in problem] == []


def test_moving_the_slider_changes_picture_and_numbers(people: list[Person], server: tuple[str, Path]) -> None:
    person, _ = people
    person.upload_and_wait("holiday <i>.mp4", CLIPS[0].read_bytes())
    assert person.text("title").startswith("holiday <i>.mp4 ")
    assert person.text("share") == "58 %"
    assert "scored by the embedding of classifier.safetensors" in person.text("title")
    before, picture = person.seen(), person.kept()
    saved = int(person.text("saved").removesuffix(" %"))
    person.keep(0.25)
    person.wait()
    assert person.text("share") == "25 %"
    assert person.text("counts") == "12 of 48"
    assert int(person.text("saved").removesuffix(" %")) > saved > 0
    assert int(person.text("change").removesuffix(" %")) < int(before[2].removesuffix(" %"))
    assert person.kept() != picture
    names, shares = zip(*re.findall(r"(waves|<b>falls</b>|sits)\s+([\d.]+) %", person.text("classes")), strict=True)
    assert set(names) == {"waves", "<b>falls</b>", "sits"}  # names of classes are text
    assert sum(map(float, shares)) == pytest.approx(100, abs=0.2)
    assert person.text("classes") != before[3]  # other tokens, another answer
    person.keep(0.6)
    person.wait()
    assert person.seen() == before
    person.page.close(run_before_unload=False)
    uploads = next(server[1].glob("everest-ui-*"))
    for _ in range(100):
        if not list(uploads.iterdir()):
            break
        people[1].page.wait_for_timeout(50)
    assert list(uploads.iterdir()) == []  # who closes the page leaves nothing


def test_frames_and_reconstruction_are_shown(people: list[Person]) -> None:
    person, _ = people
    person.choose("#examples button:nth-child(2)")
    assert not person.page.is_visible("#frames")
    person.choose("#alphas label:nth-child(3)")
    assert person.page.locator("#candidates figure").count() == 8
    assert person.page.locator("#candidates figure.chosen").count() == 4
    assert "4 of 8 candidates" in person.text("frames-hint")
    assert not person.page.is_visible("#reconstruction")
    person.choose("#tasks label:nth-child(2)")
    assert person.page.locator("#reconstructed .row").count() == 4
    assert "TRUE statistics" in person.text("reconstructed")
    assert "9 encoded and 15 predicted, of 48" in person.text("counts")
    assert not person.page.is_visible("#prediction")
    picture = person.kept()
    person.page.evaluate("document.body.dataset.thinking = 'asked'")
    person.page.select_option("#method", "tube")
    person.wait()
    assert person.kept() != picture
    assert person.page.is_disabled("#ratio")
    assert "the share does not matter" in person.text("ratio-hint")


def test_a_wrong_file_is_an_error_in_the_page_and_no_more(people: list[Person], server: tuple[str, Path]) -> None:
    person, _ = people
    whole = CLIPS[0].read_bytes()
    wrong = {"letter.mp4": b"Dear reader,\n" * 99, "torn.mp4": whole[: len(whole) // 3], "empty.mp4": b""}
    for name, content in wrong.items():
        person.upload(name, content)
        person.page.wait_for_function("name => document.getElementById('error').textContent.includes(name)", arg=name)
        assert person.page.is_visible("#error")
        told = person.page.inner_text("body")
        for secret in ("Traceback", str(server[1]), "/tmp", "site-packages", 'File "'):
            assert secret not in told
    person.upload_and_wait("good.mp4", whole)
    assert not person.page.is_visible("#error")
    assert person.text("share") == "58 %"
    picture = person.seen()
    person.upload("letter.mp4", wrong["letter.mp4"])
    person.page.wait_for_selector("#error:not([hidden])")
    assert person.seen() == picture  # what was there stays, and works
    person.keep(0.3)
    person.wait()
    assert person.text("share") == "29 %"


def test_who_is_in_a_hurry_sees_the_last_video(people: list[Person]) -> None:
    person, other = people
    other.choose("#examples button:nth-child(4)")
    for _ in range(3):
        for number in (1, 2, 3, 4):
            person.page.evaluate("document.body.dataset.thinking = 'asked'")
            person.page.click(f"#examples button:nth-child({number})")
    person.page.wait_for_selector("#examples button:nth-child(4)[aria-pressed=true]")
    person.page.wait_for_selector("body[data-busy=false]")
    person.keep(0.6)
    person.wait()
    assert person.seen() == other.seen()
    assert not person.page.is_visible("#error")


def test_a_video_in_which_nothing_changes_is_no_problem(people: list[Person]) -> None:
    person, _ = people
    picture = io.BytesIO()
    Image.new("RGB", (60, 40), "teal").save(picture, format="GIF")
    person.upload_and_wait("still.gif", picture.getvalue())
    assert person.text("change") == "–"
    assert "Nothing changes in this clip" in person.text("change-hint")
    assert person.text("share") == "58 %"


def test_two_people_at_once_see_their_own(people: list[Person]) -> None:
    shares = {0: 0.2, 1: 0.9}
    alone = []
    for number, person in enumerate(people):
        person.upload_and_wait(f"{number}.mp4", CLIPS[number * 9].read_bytes())
        person.keep(shares[number])
        person.wait()
        alone.append(person.seen())
    assert alone[0] != alone[1]
    for number, person in enumerate(people):  # again, both at once
        person.page.evaluate("delete document.body.dataset.thinking")
        person.upload(f"{number}.mp4", CLIPS[number * 9].read_bytes())
    for person in people:
        person.wait()
    for step in range(10):
        for number, person in enumerate(people):
            person.keep((0.3 + step / 20) if step < 9 else shares[number])
    for person in people:
        person.wait()
    assert [person.seen() for person in people] == alone


class Held:
    """Questions of the page that are not answered yet."""

    def __init__(self, person: Person, address: str) -> None:
        self.page = person.page
        self.routes: list[Route] = []
        self.page.route(address, lambda route: self.routes.append(route))  # noqa: PLW0108 - a builtin is refused

    def wait(self, count: int) -> None:
        for _ in range(500):
            if len(self.routes) >= count:
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"the page has asked {len(self.routes)} times, not {count}")

    def refuse(self, number: int, error: str) -> None:
        """Answer one with an error, and wait until the page knows."""
        with self.page.expect_response(self.routes[number].request.url):
            self.routes[number].fulfill(status=422, json={"error": error})
        self.page.wait_for_timeout(100)


def test_an_error_of_an_old_setting_does_not_hide_the_newest(people: list[Person]) -> None:
    person, _ = people
    person.choose("#examples button:nth-child(1)")
    held = Held(person, "**/look")
    person.keep(0.3)
    held.wait(1)
    person.keep(0.8)
    held.refuse(0, "it was too much")
    held.wait(2)
    held.routes[1].continue_()
    person.wait()
    assert person.text("share") == "79 %"
    assert not person.page.is_visible("#error")
    person.keep(0.4)
    held.wait(3)
    held.refuse(2, "too much again")
    assert person.text("error") == "too much again"  # nothing newer was set


def test_what_was_chosen_last_is_shown_whatever_is_finished_last(people: list[Person]) -> None:
    person, _ = people
    person.choose("#examples button:nth-child(1)")
    held = Held(person, "**/api/examples/*")
    for count, number in enumerate((2, 3, 5), 1):
        person.page.click(f"#examples button:nth-child({number})")
        held.wait(count)
    held.refuse(0, "an older error")
    assert not person.page.is_visible("#error")
    assert person.page.is_visible("#busy")
    held.routes[2].continue_()
    person.page.wait_for_selector("body[data-busy=false]")
    assert "bends" in person.text("title")
    with person.page.expect_request("**/close"):  # what nobody waits for any more is closed where it came from
        held.routes[1].continue_()
    person.page.wait_for_timeout(100)
    assert "bends" in person.text("title")


def test_an_upload_ends_when_something_else_is_chosen(people: list[Person], server: tuple[str, Path]) -> None:
    person, _ = people
    held = Held(person, "**/api/videos")
    person.upload("slow.mp4", CLIPS[0].read_bytes())
    held.wait(1)
    with person.page.expect_event("requestfailed", lambda request: request.url.endswith("/api/videos")):
        person.choose("#examples button:nth-child(2)")
    assert "falls" in person.text("title")
    assert not person.page.is_visible("#error")
    assert not person.page.is_visible("#progress")
    person.upload("huge.mp4", bytes(10))
    held.wait(2)
    person.page.evaluate("state.start.max_bytes = 5")
    with person.page.expect_event("requestfailed"):
        person.upload("larger.mp4", bytes(10))
    assert "larger.mp4 is larger than" in person.text("error")
