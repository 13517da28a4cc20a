"""The server behind the page: answers, people at the same time, and questions that nobody should ask."""

import asyncio
import base64
import io
import re
import threading
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from aiohttp import ClientSession
from PIL import Image
from talking import CLIPS, Client, asked, opened, tell, until
from web_models import FINETUNE

from everest.datasets import ClipRecord
from everest.web import looking
from everest.web.app import STATIC
from everest.web.guarding import HEADERS
from everest.web.looking import Chosen
from everest.web.models import Lookers
from everest.web.videos import EXAMPLES


def picture(film: dict[str, Any]) -> Image.Image:
    kind, _, content = film["picture"].partition(",")
    assert re.fullmatch(r"data:image/(png|jpeg);base64", kind)
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_video_is_opened_looked_at_and_forgotten(lookers: Lookers, tmp_path: Path) -> None:
    folder = tmp_path / "uploads"

    async def story(client: Client) -> None:
        video = await opened(client, name="my%20clip%3F.mp4")
        assert video["name"] == "my clip?.mp4"
        (file,) = folder.iterdir()
        assert file.read_bytes() == CLIPS[0].read_bytes()
        first = await asked(client, video["key"], keep_ratio=0.25)
        numbers = first["numbers"]
        assert numbers["num_encoded"] == sum(numbers["per_slot"]) == 12
        assert numbers["num_predicted"] == 0
        assert picture(first["kept"]).size == picture(first["video"]).size == picture(first["scores"]).size
        second = await asked(client, video["key"], has=first["clip"], keep_ratio=0.5)
        assert second["clip"] == first["clip"]
        assert second.keys() == {"clip", "numbers", "kept"}
        assert second["kept"] != first["kept"]
        assert second["numbers"]["change_kept"] > numbers["change_kept"]
        thought = await asked(client, video["key"], "think", keep_ratio=0.5)
        assert {name for name, _ in thought["classes"]} == set(FINETUNE.class_names)
        assert 0 < thought["cost"]["gmacs"] < thought["cost"]["full_gmacs"]
        assert thought["reconstruction"] is None
        learnt = await asked(client, video["key"], "think", task="pretrain", keep_ratio=0.5)
        assert learnt["classes"] is None
        labels = [row["label"] for row in learnt["reconstruction"]]
        assert any("TRUE statistics" in label for label in labels)
        assert len({row["picture"] for row in learnt["reconstruction"]}) == len(labels) == 4
        assert (await client.post(f"/api/videos/{video['key']}/close")).status == 200
        assert list(folder.iterdir()) == []
        response = await client.post(f"/api/videos/{video['key']}/look", json={"choice": {"keep_ratio": 0.5}})
        assert response.status == 422
        assert "open it again" in (await response.json())["error"]

    tell(story, lookers, folder)


def test_frames_are_shown_with_their_counts(lookers: Lookers, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        video = await opened(client)
        answer = await asked(client, video["key"], keep_ratio=0.5, alpha=2.0)
        frames = answer["numbers"]["frames"]
        assert len(frames["counts"]) == answer["candidates"]["count"] == 8
        best = sorted(frames["counts"], reverse=True)[:4]
        assert sorted((frames["counts"][place] for place in frames["chosen"]), reverse=True) == best
        plain = await asked(client, video["key"], keep_ratio=0.5)
        assert plain["numbers"]["frames"] is None
        assert plain["clip"] != answer["clip"]

    tell(story, lookers, tmp_path / "uploads")


def test_two_people_at_once_keep_their_own(lookers: Lookers, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        async def looked(key: str, choice: dict[str, Any]) -> dict[str, Any]:
            answer = await asked(client, key, **choice)
            del answer["clip"]  # which names an upload
            return answer

        alone: list[list[dict[str, Any]]] = []
        choices = [{"keep_ratio": share, "alpha": alpha} for share in (0.2, 0.4, 0.9) for alpha in (1.0, 1.5)]
        for clip in (CLIPS[0], CLIPS[-1]):
            key = (await opened(client, clip))["key"]
            alone.append([await looked(key, choice) for choice in choices])

        async def person(clip: Path) -> list[dict[str, Any]]:
            key = (await opened(client, clip, clip.name))["key"]
            return [await looked(key, choice) for choice in choices]

        together = await asyncio.gather(person(CLIPS[0]), person(CLIPS[-1]))
        assert together == alone
        assert together[0] != together[1]

    tell(story, lookers, tmp_path / "uploads")


def test_the_slider_does_not_wait_for_a_large_model(
    lookers: Lookers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def predict(*_: object) -> None:
        begun.set()
        assert may_end.wait(30)

    monkeypatch.setattr(Chosen, "predict", predict)

    async def story(client: Client) -> None:
        key = (await opened(client))["key"]
        slow = asyncio.create_task(asked(client, key, "think", keep_ratio=0.5))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        assert (await asked(client, key, keep_ratio=0.25))["numbers"]["num_encoded"] == 12
        assert not slow.done()
        may_end.set()
        assert (await slow)["classes"] is None

    tell(story, lookers, tmp_path / "uploads")


def test_the_slider_does_not_wait_for_a_heavy_video(
    lookers: Lookers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()
    real = looking.read_clip

    def read(record: ClipRecord, *given: Any, **options: Any) -> Any:
        if begun.is_set():
            return real(record, *given, **options)
        begun.set()
        assert may_end.wait(30)
        return real(record, *given, **options)

    async def story(client: Client) -> None:
        key, heavy = [(await opened(client))["key"] for _ in range(2)]
        await asked(client, key, keep_ratio=0.5)
        monkeypatch.setattr(looking, "read_clip", read)
        slow = [asyncio.create_task(asked(client, heavy, what, keep_ratio=0.5)) for what in ("look", "think")]
        opening = asyncio.create_task(opened(client))
        await until(begun.is_set)
        async with asyncio.timeout(20):
            assert (await asked(client, key, keep_ratio=0.25))["numbers"]["num_encoded"] == 12
        await asked(client, key, "think", keep_ratio=0.25)
        assert not any(task.done() for task in (*slow, opening))
        may_end.set()
        assert (await slow[0])["numbers"]["num_encoded"] == 24
        await asyncio.gather(*slow, opening)

    tell(story, lookers, tmp_path / "uploads")


def test_two_videos_are_never_taken_for_one(lookers: Lookers, tmp_path: Path) -> None:
    """The page is not sent what it shows already; two videos of one length have clips at the same times."""

    async def story(client: Client) -> None:
        first, second = [await asked(client, (await opened(client))["key"], keep_ratio=0.5) for _ in range(2)]
        assert first["video"] == second["video"]
        assert first["clip"] != second["clip"]

    tell(story, lookers, tmp_path / "uploads")


def test_examples_have_pictures(lookers: Lookers, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        start = await (await client.get("/api/start")).json()
        assert len(start["examples"]) == len(EXAMPLES)
        assert start["can_predict"]
        assert start["can_reconstruct"]
        for number in range(len(EXAMPLES)):
            response = await client.get(f"/api/examples/{number}.png")
            assert Image.open(io.BytesIO(await response.read())).size[0] > 100
        video = await (await client.post("/api/examples/1", json={})).json()
        assert video["first_start"]["finetune"] > 0
        assert (await asked(client, video["key"], keep_ratio=0.5))["numbers"]["num_encoded"] == 24
        assert (await client.post("/api/examples/99", json={})).status == 422

    tell(story, lookers, tmp_path / "uploads")


@pytest.mark.parametrize(
    "question",
    [
        b"no JSON",
        b"[]",
        b"{}",
        b'{"choice": {"keep_ratio": 7}}',
        b'{"choice": {"keep_ratio": NaN}}',
        b'{"choice": {"keep_ratio": 0.5, "method": "best"}}',
        b'{"choice": {"keep_ratio": 0.5, "path": "/etc/passwd"}}',
        b'{"choice": {"keep_ratio": 0.1, "task": "pretrain"}}',
    ],
)
def test_a_question_that_makes_no_sense_is_an_error(question: bytes, lookers: Lookers, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        key = (await opened(client))["key"]
        for what in ("look", "think"):
            response = await client.post(f"/api/videos/{key}/{what}", data=question)
            assert response.status == 422
            assert "Traceback" not in (await response.text())
            assert len((await response.json())["error"]) > 10

    tell(story, lookers, tmp_path / "uploads")


def test_no_other_file_is_served(lookers: Lookers, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        video = await opened(client)
        (file,) = (tmp_path / "uploads").iterdir()
        for path in ("/page.py", "/app.py", "/..%2fapp.py", "/%2e%2e/app.py", f"/{file.name}"):
            assert (await client.get(path)).status == 404
        assert (await client.get(f"/api/videos/{video['key']}/look")).status == 405
        assert (await client.post("/api/videos/..%2f..%2fx/look", json={})).status == 422

    tell(story, lookers, tmp_path / "uploads")


def test_every_answer_forbids_other_hosts(lookers: Lookers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(Chosen, "seen", fail)

    async def story(client: Client) -> None:
        for path in (*STATIC, "/api/start", "/nothing"):
            response = await client.get(path)
            assert {name: response.headers[name] for name in HEADERS} == HEADERS
        video = await opened(client)
        response = await client.post(f"/api/videos/{video['key']}/look", json={"choice": {"keep_ratio": 0.5}})
        assert response.status == 500
        assert {name: response.headers[name] for name in HEADERS} == HEADERS
        assert "secret" not in await response.text()
        assert "http" not in HEADERS["Content-Security-Policy"]

    tell(story, lookers, tmp_path / "uploads")
    for name, _ in STATIC.values():
        text = files("everest.web").joinpath("static", name).read_text()
        assert set(re.findall(r"(?:https?:)?//[\w.]+\.\w+", text)) <= {"http://www.w3.org", "//www.w3.org"}, name
        assert "style=" not in text or name.endswith(".js"), name


def test_other_pages_cannot_use_the_server(lookers: Lookers, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        own = f"{client.server.host}:{client.server.port}"
        evil = [
            (f"{name}{port}", 403) for name in ("evil.example", "127.0.0.1.evil.example", "") for port in ("", ":80")
        ]
        for host, status in ((own, 200), ("localhost:9000", 200), ("[::1]:80", 200), *evil):
            async with ClientSession() as session:  # a name that leads here, as rebinding gives it
                response = await session.get(client.make_url("/api/start"), headers={"Host": host})
                assert response.status == status
        others = ("http://evil.example", "null", "http://[", f"http://{own}.evil.example", f"ftp://{own}", "")
        for origin, status in ((f"http://{own}", 200), (f"https://{own}", 200), *((other, 403) for other in others)):
            response = await client.post("/api/examples/0", json={}, headers={"Origin": origin})
            assert response.status == status

    tell(story, lookers, tmp_path / "uploads")
