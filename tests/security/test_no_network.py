"""No other machine is asked for anything unless somebody asked for that."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from watching import run_watched

from everest.cli import main
from everest.datasets import load_data, read_manifest
from everest.errors import ManifestError, RemoteError, VideoError, WeightsError
from everest.objectives.transformers_teachers import load_transformers_teacher
from everest.tokens import TokenGrid
from everest.video import ShardMember, VideoReader
from everest.video.protocols import STORES, expect_store, ffmpeg_options
from everest.video.remote import read_url, read_url_if_there

CLIP = sorted(record.path for record in load_data("bundled").records)[0]

EVERYTHING = """
import shutil, sys
from dataclasses import replace
from pathlib import Path
from unittest import mock
import everest, transformers
from everest import doctor
from everest.cli import main
from everest.datasets import load_data
from everest.demo import run_demo
from everest.training.engine import Engine

root = Path(everest.__file__).parent / "assets" / "falls"
for number, path in enumerate(sorted(root.rglob("*.mp4"))[:6]):
    folder = Path("videos") / "ab"[number % 2]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
sizes = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
config = transformers.VideoMAEConfig(image_size=32, num_frames=8, use_mean_pooling=False, **sizes)
transformers.VideoMAEModel(config).save_pretrained("teacher")

small = "clip.height=32 clip.width=32 optim.epochs=1 optim.warmup_epochs=0 data.num_workers=1 data.batch_size=2 "
small += "optim.global_batch_size=2 run.device=cpu"
small = [f"--set={setting}" for setting in small.split()]
taught = ["--set=objective.name=mvd", "--set=objective.video_teacher=teacher"]

def run(*arguments, codes=(0,)):
    code = main([str(argument) for argument in arguments])
    assert code in codes, (arguments, code)

run("data", "index", "videos", "--out", "list.csv")
run("data", "check", "list.csv", "--workers=1")
run("data", "pack", "list.csv", "packed", "--workers=0", "--short-side=32")
run("data", "verify", "packed")
run("data", "flow", "list.csv", "--out=flow", "--workers=1")
run("pretrain", "--recipe=demo", "--data=packed", "--out=pre", *small, *taught)
run("finetune", "--recipe=demo", "--data=packed", "--out=fine", "--init=pre", *small)
run("evaluate", "fine", "--data=packed")
run("predict", "fine", next(Path("videos/a").iterdir()))
run("embed", "pre", next(Path("videos/a").iterdir()), "--out=features.npz")
run("weights", "convert", "pre/weights.safetensors", "hf", "--to=hf", codes=(0, 2))
run("weights", "show", "pre")
run("runs", "list", ".")
run("runs", "show", "pre")
run("runs", "compare", "pre", "fine", "--plot=plot.png")
run("recipe", "list")
run("bench", "step", "--size=tiny", "--frames=4", "--side=32", "--batch=1", "--steps=1", "--device=cpu")
clip = Engine.clip
with mock.patch.object(Engine, "clip", lambda *given: clip(*given) * float("inf")):  # so that steps are skipped
    run("pretrain", "--recipe=demo", "--data=packed", "--out=broken", *small)
run("replay", min(Path("broken/replays").glob("*.json")), codes=(1,))
quick = ("clip.height=32", "clip.width=32", "optim.epochs=1", "optim.warmup_epochs=0", "run.device=cpu")
bundled = load_data("bundled")
few = tuple({(record.split, record.label): record for record in bundled.records}.values())
with mock.patch("everest.demo.load_data", lambda _: replace(bundled, records=few)):
    run_demo(Path("demo"), settings=quick)
assert Path("demo/report.html").exists()
for finding in doctor.diagnose(compile_seconds=0):
    print(finding)
print("the end")
"""


def test_a_whole_day_of_work_asks_for_no_other_machine(tmp_path: Path) -> None:
    """All commands, with transformers for a teacher; nothing that they start may do so either."""
    done, asked = run_watched(EVERYTHING, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("the end\n")
    assert asked == []


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    code = """
import socket, subprocess, sys, urllib.request
for ask in (
    lambda: socket.socket().connect(("192.0.2.1", 80)),
    lambda: socket.getaddrinfo("example.org", 80),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9)),
    lambda: urllib.request.urlopen("http://example.org"),
):
    try:
        ask()
    except OSError:
        pass
socket.socket().bind(("127.0.0.1", 0))
subprocess.run([sys.executable, "-c", "import socket; socket.gethostbyname('example.com')"])
"""
    _, asked = run_watched(code, tmp_path)
    assert {line.split()[0] for line in asked} >= {"socket.connect", "socket.getaddrinfo", "socket.sendto"}
    assert asked[-1] == "socket.gethostbyname example.com"


def test_the_hub_is_asked_only_for_models_that_are_named_so(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, dict[str, object]]] = []

    def ask(name: str, **options: object) -> None:
        given.append((name, options))
        raise OSError("there is no network here")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", ask)
    for teacher in ("hf:MCG-NJU/videomae-base", "/a/folder"):
        with pytest.raises(WeightsError, match="there is no network here"):
            load_transformers_teacher(teacher, "video", TokenGrid(4, 2, 2, 2, 16))
    assert given == [
        ("MCG-NJU/videomae-base", {"trust_remote_code": False, "local_files_only": False}),
        ("/a/folder", {"trust_remote_code": False, "local_files_only": True}),
    ]


def test_nobody_is_asked_to_convert_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers asks a service of the hub to convert weights that are not safetensors, in a thread of its own."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8)  # type: ignore[arg-type]
    model = transformers.ViTModel(config)
    config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    named: list[str] = []

    def take(_: str, name: str, **__: object) -> str | None:
        return str(tmp_path / name) if (tmp_path / name).exists() else None

    for module in ("configuration_utils", "modeling_utils", "utils.hub"):
        monkeypatch.setattr(f"transformers.{module}.cached_file", take)
    monkeypatch.setattr("transformers.modeling_utils.has_file", lambda *_, **__: False)
    monkeypatch.setattr("transformers.modeling_utils.auto_conversion", lambda name, **_: named.append(name))
    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION", raising=False)
    load_transformers_teacher("hf:somebody/model", "image", TokenGrid(4, 2, 2, 2, 8))
    assert named == []
    monkeypatch.setenv("DISABLE_SAFETENSORS_CONVERSION", "0")  # who wants it says so
    load_transformers_teacher("hf:somebody/model", "image", TokenGrid(4, 2, 2, 2, 8))
    for thread in threading.enumerate():
        if thread.name == "Thread-auto_conversion":
            thread.join(10)
    assert named == ["somebody/model"]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server that writes down what it is asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}", asked
    serving.shutdown()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}/x.ts\n#EXT-X-ENDLIST\n",
    "hls of a file": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{near}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {url}/x.mp4\n",
    "concat of a file": "ffconcat version 1.0\nfile near.mp4\n",
    "broadcast": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 50555 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{url}/x.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "links": "{url}/x.mp4\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_called_a_video_opens_nothing(kind: str, server: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = server
    (tmp_path / "near.mp4").write_bytes(CLIP.read_bytes())
    content = PLAYLISTS[kind].format(url=url, near=tmp_path / "near.mp4")
    for name in ("x.mp4", "x.m3u8", "x.sdp"):
        path = tmp_path / name
        path.write_text(content)
        for source in (path, ShardMember(str(path), name, 0, len(content))):
            with pytest.raises(VideoError, match=r"not a readable video|no moving picture"):
                VideoReader(source)
    assert asked == []


def test_videos_are_read_all_the_same() -> None:
    content = CLIP.read_bytes()
    for source in (CLIP, ShardMember(str(CLIP), CLIP.name, 0, len(content))):
        with VideoReader(source) as reader:
            assert reader.read([0]).num_frames == 1
    assert {"mp4", "matroska", "avi"} <= set(ffmpeg_options(is_file=True)["format_whitelist"].split(","))


def test_only_stores_are_read_by_url() -> None:
    for url in ("s3://b/x", "https://h/x", "simplecache::https://h/x", "memory://x", "file:///x", "HTTPS://h/x"):
        expect_store(url)
    refused = ("reference::https://h/refs.json", "reference://x", "filecache::https://h/x", "git://x", "dask://x")
    for url in (*refused, "zip://a::https://h/x", "jupyter://x", "simplecache::reference::https://h/x"):
        with pytest.raises(ValueError, match="is not a protocol that clips are read by"):
            expect_store(url)
        for read in (read_url, read_url_if_there):
            with pytest.raises(RemoteError, match="is not a protocol that clips are read by"):
                read(url)
    assert {"reference", "filecache", "cached", "python"}.isdisjoint(STORES)


def test_a_list_names_no_other_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.csv").write_text(
        "path,shard,offset,num_bytes\na.mp4,reference::https://h/refs.json,0,10\nb.mp4,dask://x,0,10\n"
    )
    report = ["--report", str(tmp_path / "r.jsonl")]
    assert main(["data", "check", str(tmp_path / "list.csv"), "--workers=0", *report]) == 1
    assert "is not a protocol" in capsys.readouterr().out


def test_a_list_from_elsewhere_names_no_files_of_this_machine() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    secret = CLIP.as_uri()
    for shard in (secret, f"simplecache::{secret}", secret.replace("file:", "local:")):
        memory.pipe("/lists/list.csv", f"path,shard,offset,num_bytes\na.mp4,{shard},0,10\n".encode())
        with pytest.raises(ManifestError, match="a list from elsewhere cannot name files of this machine"):
            read_manifest("memory://lists/list.csv")
    memory.pipe("/lists/list.csv", b"path,shard,offset,num_bytes\na.mp4,../../etc/passwd,0,10\n")
    (record,) = read_manifest("memory://lists/list.csv").records
    assert record.member is not None
    assert record.member.shard.startswith("memory://")
