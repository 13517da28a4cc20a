"""Damaged videos: real files, changed at random in the ways in which files get damaged, and in worse ones."""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
from av.codec import codecs_available

import everest

FALLS = Path(everest.__file__).parent / "assets" / "falls"
CLIPS = sorted(FALLS.rglob("*.mp4"))
NUM_FRAMES = 48  # of a video that is encoded again

# file name -> codec; None copies the packets
CONTAINERS = {
    "first.mp4": (None, {"movflags": "faststart"}),
    "pieces.mp4": (None, {"movflags": "frag_keyframe+empty_moov"}),
    "copy.mkv": (None, {}),
    "copy.mov": (None, {}),
    "copy.ts": (None, {}),
    "small.avi": ("mpeg4", {}),
    "small.webm": ("libvpx-vp9", {}),
    "small.gif": ("gif", {}),
    "small.mpg": ("mpeg2video", {}),
    "small.wmv": ("wmv2", {}),
    "small.flv": ("flv", {}),
}
EXTREMES = (0, 1, 2, 0x7F, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
NAMES = (
    "-dash.mp4",
    "--help.mp4",
    "with space .mp4",
    " lead.mp4",
    "new\nline.mp4",
    "tab\tand 'quotes\".mp4",
    "comma, semicolon; label 3.mp4",
    "ÄÖ 日本語 🙂.mp4",
    "e\u0301 combining.mp4",
    "right\u202eto left.mp4",
    "%d %s {x} $HOME *?[a].mp4",
    "concat:a|b.mp4",
    "http:x.mp4",
    "UPPER.MP4",
    "two.dots..mp4",
    "#hash.mp4",
    "back\\slash.mp4",
    "x" * 240 + ".mp4",
)
# What mp4 boxes hold: name -> offsets of 4-byte fields from the name on
BOXES = {
    b"mvhd": (16, 20),
    b"tkhd": (16, 24, 76, 80),
    b"mdhd": (16, 20),
    b"elst": (8, 12, 16),
    b"stts": (8, 12, 16),
    b"ctts": (8, 12, 16),
    b"stsc": (8, 12, 16, 20),
    b"stsz": (8, 12, 16, 20),
    b"stco": (8, 12, 16),
    b"stss": (8, 12),
    b"avc1": (24, 26, 28),
    b"avcC": (4, 8),
    b"trun": (4, 8, 12),
    b"moov": (-4,),
    b"mdat": (-4,),
    b"stsd": (-4, 8),
}


@dataclass(frozen=True)
class Mutant:
    """A file that may be damaged.

    Attributes:
        path: Where it is.
        kind: What was done.
        is_good: It holds what the original holds, under another name.
        is_listed: It has to be in the manifest: a file that is called like a video.
    """

    path: Path
    kind: str
    is_good: bool = False
    is_listed: bool = True


def make_originals(folder: Path) -> list[Path]:
    """Write real footage in many containers; those whose encoder this build of FFmpeg lacks are left out."""
    folder.mkdir(parents=True)
    for clip in CLIPS[:3]:
        shutil.copy(clip, folder)
    for number, (name, (codec, options)) in enumerate(CONTAINERS.items()):
        if codec is None or codec in codecs_available:
            _convert(CLIPS[number % len(CLIPS)], folder / name, codec, options)
    return sorted(folder.iterdir())


def _convert(source: Path, target: Path, codec: str | None, options: dict[str, str]) -> None:
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as made:
        video = given.streams.video[0]
        if codec is None:
            copied = made.add_stream_from_template(video)
            for packet in given.demux(video):
                if packet.dts is not None:
                    packet.stream = copied
                    made.mux(packet)
            return
        stream = made.add_stream(codec, rate=25, options={"cpu-used": "8"} if codec.startswith("libvpx") else {})
        stream.width, stream.height, stream.pix_fmt = 112, 64, "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.thread_count = 1
        for index, frame in enumerate(given.decode(video)):
            if index == NUM_FRAMES:
                break
            small = frame.reformat(112, 64, stream.pix_fmt)
            small.pts, small.time_base = index, 1 / stream.codec_context.framerate
            made.mux(stream.encode(small))
        made.mux(stream.encode(None))


def make_mutants(originals: list[Path], folder: Path, count: int, seed: int) -> list[Mutant]:
    """Write mutants; the same ones for the same numbers.

    Args:
        originals: Files that are whole.
        folder: Where to; it is made.
        count: How many.
        seed: Decides everything.
    """
    folder.mkdir(parents=True)
    return [_make(originals, folder, number, random.Random(f"{seed}/{number}")) for number in range(count)]


def _make(originals: list[Path], folder: Path, number: int, rng: random.Random) -> Mutant:
    source = rng.choice(originals)
    place = folder / f"{number:04d}"  # a folder of its own, for names that look alike
    if rng.random() < 0.25:
        place.mkdir()
        return rng.choice(ODDITIES)(source, place, rng)
    content = bytearray(source.read_bytes())
    kinds = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        damage = rng.choice(DAMAGES)
        damage(content, rng)
        kinds.append(damage.__name__.lstrip("_"))
    path = place.with_suffix(source.suffix)
    path.write_bytes(content)
    return Mutant(path, f"{source.name}: {', '.join(kinds)}")


def _truncate(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content) + 1) :]


def _keep_little(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(200) :]


def _cut_start(content: bytearray, rng: random.Random) -> None:
    del content[: rng.randrange(max(1, len(content) // 10))]


def _flip_few(content: bytearray, rng: random.Random) -> None:
    _flip(content, rng, rng.randint(1, 10), 0, len(content))


def _flip_many(content: bytearray, rng: random.Random) -> None:
    _flip(content, rng, len(content) // rng.choice((30, 100, 1000)), 0, len(content))


def _flip_start(content: bytearray, rng: random.Random) -> None:
    _flip(content, rng, rng.randint(1, 20), 0, min(2000, len(content)))


def _flip_end(content: bytearray, rng: random.Random) -> None:
    _flip(content, rng, rng.randint(1, 20), max(0, len(content) - 4000), len(content))


def _flip_body(content: bytearray, rng: random.Random) -> None:
    _flip(content, rng, rng.randint(1, 200), len(content) // 10, len(content) * 9 // 10)


def _flip(content: bytearray, rng: random.Random, number: int, first: int, last: int) -> None:
    for _ in range(number if last > first else 0):
        content[rng.randrange(first, last)] ^= 1 << rng.randrange(8)


def _zero_range(content: bytearray, rng: random.Random) -> None:
    start, size = _range(content, rng)
    content[start : start + size] = bytes(size)


def _noise_range(content: bytearray, rng: random.Random) -> None:
    start, size = _range(content, rng)
    content[start : start + size] = rng.randbytes(size)


def _drop_range(content: bytearray, rng: random.Random) -> None:
    start, size = _range(content, rng)
    del content[start : start + size]


def _repeat_range(content: bytearray, rng: random.Random) -> None:
    start, size = _range(content, rng)
    content[start:start] = content[start : start + size]


def _range(content: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content) - start, rng.choice((16, 512, 4096, 40_000)))


def _shuffle_blocks(content: bytearray, rng: random.Random) -> None:
    size = rng.choice((188, 512, 4096))
    blocks = [content[i : i + size] for i in range(0, len(content), size)]
    first = rng.randrange(len(blocks) + 1)
    moved = blocks[first : first + rng.choice((4, 16, 10_000))]
    rng.shuffle(moved)
    blocks[first : first + len(moved)] = moved
    content[:] = b"".join(blocks)


def _extreme_field(content: bytearray, rng: random.Random) -> None:
    """Set a field of an mp4 header, or any word near the start or the end, to a value that nobody expects."""
    found = [content.find(name) for name in BOXES]
    names = [name for name, at in zip(BOXES, found, strict=True) if at >= 4]
    if names:
        name = rng.choice(names)
        at = content.find(name) + 4 + rng.choice(BOXES[name])
    else:
        near = min(600, len(content))
        at = rng.randrange(near) if near and rng.random() < 0.8 else max(0, len(content) - rng.randrange(1, 600))
    size = rng.choice((2, 4, 4, 8))
    value = (rng.choice(EXTREMES) * (1 if size < 8 else 0x100000001)) & (256**size - 1)
    if 0 <= at <= len(content) - size:
        content[at : at + size] = value.to_bytes(size, rng.choice(("big", "big", "little")))


def _huge_size(content: bytearray, rng: random.Random) -> None:
    """Let the header claim pictures of up to 65535 x 65535 pixels."""
    width, height = rng.choice(((65535, 65535), (16000, 16000), (30000, 4), (65535, 1), (0, 0), (20000, 12000)))
    if content[:3] == b"GIF":
        at = content.find(b"\x2c", 13)
        for place in (6, at + 5):
            content[place : place + 4] = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    elif content[:4] == b"RIFF":
        for name, offset in ((b"avih", 40), (b"strf", 12)):
            at = content.find(name) + offset
            content[at : at + 8] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    elif (at := content.find(b"\x49\x83\x42")) > 0:  # the start of a VP9 key frame: two times 16 bits after 4
        bits = int.from_bytes(content[at + 3 : at + 8], "big")
        size = max(width - 1, 0) << 16 | max(height - 1, 0)
        bits = bits & ~(0xFFFFFFFF << 4) | size << 4
        content[at + 3 : at + 8] = bits.to_bytes(5, "big")
    elif (at := content.find(b"avc1")) > 0 and (end := content.find(b"avcC")) > 0:
        content[at + 28 : at + 32] = width.to_bytes(2, "big") + height.to_bytes(2, "big")
        _flip(content, rng, 2, end + 12, end + 28)  # the parameter set, which says it as well
    else:
        _flip_start(content, rng)


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _truncate,
    _keep_little,
    _cut_start,
    _flip_few,
    _flip_many,
    _flip_start,
    _flip_end,
    _flip_body,
    _zero_range,
    _noise_range,
    _drop_range,
    _repeat_range,
    _shuffle_blocks,
    _extreme_field,
    _extreme_field,
    _extreme_field,
    _huge_size,
)


def _renamed(source: Path, place: Path, rng: random.Random) -> Mutant:
    name = rng.choice(NAMES).replace(".mp4", source.suffix) if rng.random() < 0.5 else rng.choice(NAMES)
    shutil.copy(source, place / name)
    return Mutant(place / name, "renamed", is_good=True)


def _other_extension(source: Path, place: Path, rng: random.Random) -> Mutant:
    """Good content under the extension of another container, or of no video at all."""
    extension = rng.choice((".mp4", ".avi", ".mkv", ".webm", ".mpg", ".gif", ".ts", ".wmv", ".jpg", ".txt", ""))
    path = place / f"other{extension}"
    shutil.copy(source, path)
    return Mutant(path, f"{source.name} as {extension}", is_listed=extension not in {".jpg", ".txt", ""})


def _not_a_video(source: Path, place: Path, rng: random.Random) -> Mutant:
    contents = (
        b"",
        b"\0" * 5000,
        b"hello",
        b"<!DOCTYPE html><title>404 Not Found</title>" * 50,
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff\xd8\xff\xe0" + bytes(100),
        b"PK\x03\x04" + rng.randbytes(500),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
        rng.randbytes(20_000),
        source.read_bytes()[:4] + rng.randbytes(5000),
    )
    path = place / f"text{source.suffix}"
    path.write_bytes(rng.choice(contents))
    return Mutant(path, "not a video")


def _no_file(_: Path, place: Path, rng: random.Random) -> Mutant:
    """A folder, a pipe, or a link that leads nowhere or to itself, called like a video."""
    path = place / "thing.mp4"
    kind = rng.choice(("folder", "pipe", "loop", "nowhere"))
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.symlink_to(place / "missing.mp4")
    return Mutant(path, kind, is_listed=kind == "pipe")


def _linked(source: Path, place: Path, _: random.Random) -> Mutant:
    path = place / f"link{source.suffix}"
    path.symlink_to(source)
    return Mutant(path, "link", is_good=True)


ODDITIES = (_renamed, _renamed, _other_extension, _not_a_video, _no_file, _linked)
