"""Frames read by jumping are those of decoding from the start, in every container."""

import math
import random
import wave
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from PIL import Image
from torch import Tensor
from video_files import FALLS, FALLS_CLIPS, Writer, decode_all

from everest.errors import VideoError
from everest.video import VideoInfo, VideoReader, probe, read_clip

GOP = {"g": "12"}
X265 = "bframes=3:log-level=none:pools=1:frame-threads=1"
X264 = {**GOP, "preset": "ultrafast", "x264-params": "scenecut=0"}
CONTAINERS = {
    "h264.mkv": ("libx264", "yuv420p", X264),
    "bframes.mp4": ("libx264", "yuv420p", {**GOP, "preset": "medium", "x264-params": "bframes=3:scenecut=0"}),
    "open_gop.mp4": ("libx264", "yuv420p", {**GOP, "x264-params": "bframes=3:open-gop=1:scenecut=0"}),
    "open_gop.mkv": ("libx264", "yuv420p", {**GOP, "x264-params": "bframes=3:open-gop=1:scenecut=0"}),
    "open_gop.ts": ("libx264", "yuv420p", {**GOP, "x264-params": "bframes=3:open-gop=1:scenecut=0"}),
    "open_gop_h265.mp4": (
        "libx265",
        "yuv420p",
        {"x265-params": f"{X265}:keyint=12:min-keyint=1:open-gop=1:scenecut=0"},
    ),
    "open_gop_h265.mkv": ("libx265", "yuv420p", {"x265-params": f"{X265}:keyint=20"}),  # as it is by default
    "h265.mov": ("libx265", "yuv420p", {"x265-params": f"{X265}:keyint=12:open-gop=0"}),
    "bframes_mpeg2.ts": ("mpeg2video", "yuv420p", {**GOP, "bf": "2"}),
    "bframes_mpeg1.ts": ("mpeg1video", "yuv420p", {**GOP, "bf": "2"}),
    "bframes_mpeg1.mpg": ("mpeg1video", "yuv420p", {**GOP, "bf": "2"}),
    "low_rate_mpeg1.mpeg": ("mpeg1video", "yuv420p", {**GOP, "b": "60k"}),
    "bframes_mpeg2.mpg": ("mpeg2video", "yuv420p", {**GOP, "bf": "2"}),
    "bframes_mpeg1.vob": ("mpeg1video", "yuv420p", {**GOP, "bf": "2"}),
    "bframes_mpeg2.vob": ("mpeg2video", "yuv420p", {**GOP, "bf": "2"}),
    "bframes_mpeg2.mkv": ("mpeg2video", "yuv420p", {**GOP, "bf": "2"}),
    "bframes_mpeg4.mp4": ("mpeg4", "yuv420p", {**GOP, "bf": "2"}),
    "mpeg4.mov": ("mpeg4", "yuv420p", GOP),
    "windows.wmv": ("wmv2", "yuv420p", GOP),
    "flash.flv": ("flv", "yuv420p", GOP),
    "av1.mp4": ("libsvtav1", "yuv420p", {**GOP, "preset": "12"}),
    "motion.avi": ("mjpeg", "yuvj420p", {}),
    "h264.ts": ("libx264", "yuv420p", X264),
    "mpeg4.avi": ("mpeg4", "yuv420p", GOP),
    "bframes.avi": ("mpeg4", "yuv420p", {**GOP, "bf": "2"}),
    "h264_bframes.avi": ("libx264", "yuv420p", {**GOP, "x264-params": "bframes=3:scenecut=0"}),
    "vp8.webm": ("libvpx", "yuv420p", {**GOP, "cpu-used": "8", "deadline": "realtime"}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {**GOP, "cpu-used": "8", "deadline": "realtime"}),
    "animation.gif": ("gif", "rgb8", {}),
    "ten_bit.mkv": ("ffv1", "yuv420p10le", {}),
    "alpha.mkv": ("ffv1", "bgra", {}),
    "grey.mkv": ("ffv1", "gray", {}),
    "raw.h264": ("libx264", "yuv420p", X264),
}


def count_open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def check_random_reads(path: Path, expected: Tensor, num_reads: int = 6) -> None:
    draw = random.Random(0)
    with VideoReader(path) as reader:
        assert reader.info.num_frames == len(expected)
        for _ in range(num_reads):
            indices = [draw.randrange(len(expected)) for _ in range(3)]
            clip = reader.read(indices)
            assert torch.equal(clip.frames, expected[indices]), (path.name, indices)


def check_fresh_reads(path: Path, expected: Tensor) -> None:
    """Read every frame, and every fourth from every start, each with a reader that has read nothing else."""
    num = len(expected)
    starts = range(max(num - 12, 0))
    for indices in [*([index] for index in range(num)), *(list(range(start, start + 13, 4)) for start in starts)]:
        with VideoReader(path) as reader:
            assert torch.equal(reader.read(indices).frames, expected[indices]), (path.name, indices)


@pytest.mark.parametrize("path", FALLS_CLIPS, ids=lambda p: p.stem)
def test_jumps_are_frame_exact_in_every_bundled_clip(path: Path) -> None:
    check_random_reads(path, decode_all(path))


@pytest.mark.parametrize("name", CONTAINERS)
def test_jumps_are_frame_exact_in_every_container(name: str, footage: Tensor, write_video: Writer) -> None:
    codec, pix_fmt, options = CONTAINERS[name]
    path = write_video(footage, name, codec, pix_fmt, options)
    expected = decode_all(path)
    assert len(expected) == len(footage)
    check_random_reads(path, expected)
    check_fresh_reads(path, expected)
    clip = read_clip(path, range(len(footage)))
    assert torch.equal(clip.frames, expected)
    assert torch.allclose(clip.pts_seconds, torch.arange(48).double() / 25, atol=2e-3)


def test_a_program_stream_whose_time_starts_anew_is_read_to_its_end(footage: Tensor, write_video: Writer) -> None:
    """The parts of a DVD are put together by copying bytes."""
    parts = [write_video(footage, name, "mpeg2video", options={**GOP, "bf": "0"}) for name in ("1.vob", "2.vob")]
    whole = parts[0].with_name("whole.vob")
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    expected = decode_all(whole)
    assert len(expected) == 96
    check_random_reads(whole, expected)


def test_pictures_of_a_program_stream_that_are_shown_for_long_stay_so(footage: Tensor, write_video: Writer) -> None:
    pts = [i + i // 4 for i in range(48)]  # a film of 24 frames a second, as television at 30 shows it
    path = write_video(footage, "film.mpg", "mpeg2video", options={"g": "1", "qmax": "2"}, pts=pts, rate=Fraction(30))
    expected = decode_all(path)
    with VideoReader(path) as reader:
        assert abs(reader.info.num_frames - 59) <= 1
        assert torch.equal(reader.read([55]).frames[0], expected[44])


def test_counting_the_pictures_of_a_program_stream_has_a_time_limit(footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage, "slow.mpg", "mpeg2video", options=GOP)
    with pytest.raises(VideoError, match="longer than"):
        VideoReader(path, time_limit_seconds=0.0)


def test_time_stamps_are_seconds_from_the_first_frame(footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage, "late.mkv", "ffv1", pts=[i + 100 for i in range(48)])
    clip = read_clip(path, [0, 10, 47])
    assert clip.pts_seconds.tolist() == pytest.approx([0.0, 0.4, 1.88], abs=1e-3)
    assert torch.equal(clip.frames, decode_all(path)[[0, 10, 47]])


def test_a_jump_does_not_decode_from_the_start() -> None:
    path = FALLS / "Fall" / "Subject1_Fall_13.mp4"  # a key frame every 12
    with VideoReader(path) as reader:
        last = reader.info.num_frames - 1
        assert last > 60
        opened = reader.num_decoded
        reader.read([last])
        assert reader.num_decoded - opened <= 14
        before = reader.num_decoded
        reader.read([last // 2])
        assert reader.num_decoded - before <= 14


def test_only_the_needed_span_is_decoded_and_each_frame_once() -> None:
    with VideoReader(FALLS / "Fall" / "Subject1_Fall_13.mp4") as reader:
        reader.read([12, 14, 13, 12, 12, 18])
        assert reader.num_decoded <= 10  # of the group of pictures that begins at 12, and the very first
        before = reader.num_decoded
        reader.read([18])
        assert reader.num_decoded - before <= 7


def test_far_frames_of_one_read_are_reached_by_jumps(footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage.repeat(5, 1, 1, 1), "long.mkv", "libx264", options=X264)  # 240 frames, blind jumps
    with VideoReader(path) as reader:
        reader.read([0, 230])
        assert reader.num_decoded < 60


def test_rare_key_frames_are_not_jumped_to_again_and_again(footage: Tensor, write_video: Writer) -> None:
    options = {"g": "1000", "preset": "ultrafast", "x264-params": "scenecut=0"}
    path = write_video(footage.repeat(8, 1, 1, 1), "one_key.mkv", "libx264", options=options)  # 384 frames
    with VideoReader(path) as reader:
        reader.read([0, 70, 140, 210, 280, 350])
        assert reader.num_decoded < 384 + 80


def test_order_and_repeats_of_the_indices_are_kept() -> None:
    path = FALLS_CLIPS[0]
    expected = decode_all(path)
    indices = [30, 2, 2, 17, 30, 0]
    clip = read_clip(path, indices)
    assert torch.equal(clip.frames, expected[indices])
    assert clip.pts_seconds[0] == clip.pts_seconds[4] > clip.pts_seconds[3] > clip.pts_seconds[1]
    assert clip.source == path


def test_info_of_a_bundled_clip() -> None:
    path = FALLS / "ADL" / "Subject1_ADL_10.mp4"
    info = probe(path)
    assert info == VideoInfo(path, 118, 30.0, pytest.approx(118 / 30, abs=1e-3), 128, 228, "h264", 0)


def test_a_variable_frame_rate_gives_the_frame_on_show(footage: Tensor, write_video: Writer) -> None:
    gaps = [1, 1, 4, 1, 6, 2, 1, 1, 3, 5] * 3
    pts = [sum(gaps[:i]) for i in range(30)]  # in 1/30 s
    path = write_video(footage[:30], "vfr.mp4", "libx264", options=X264, pts=pts, rate=Fraction(30))
    expected = decode_all(path)
    with VideoReader(path) as reader:
        info = reader.info
        assert info.fps == pytest.approx(30 * 30 / (pts[-1] + gaps[-1]), rel=0.1)
        for index in [*range(info.num_frames), 3, 20, 11]:
            time = index / info.fps
            on_show = max(i for i, p in enumerate(pts) if p / 30 <= time + 0.1 / info.fps)
            clip = reader.read([index])
            assert torch.equal(clip.frames[0], expected[on_show]), index
            assert float(clip.pts_seconds) == pytest.approx(pts[on_show] / 30, abs=1e-3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_by_flag_is_applied(rotation: int, footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage[:4], "turned.mp4", "libx264", options=X264, rotation=rotation)
    stored = decode_all(path)
    with VideoReader(path) as reader:
        info, frames = reader.info, reader.read([0, 3]).frames
    assert info.rotation_degrees == rotation
    assert (info.height, info.width) == ((84, 64) if rotation != 180 else (64, 84))
    assert torch.equal(frames, stored[[0, 3]].rot90(rotation // 90, (1, 2)))


def test_odd_sizes_and_single_frames(footage: Tensor, write_video: Writer) -> None:
    odd = write_video(footage[:5, :35, :51], "odd.mkv", "ffv1", "yuv444p")
    assert (probe(odd).height, probe(odd).width) == (35, 51)
    check_random_reads(odd, decode_all(odd), 2)
    for name, codec in (("one.mp4", "libx264"), ("one.mkv", "ffv1"), ("one.avi", "mpeg4"), ("one.gif", "gif")):
        path = write_video(footage[:1], name, codec, "rgb8" if codec == "gif" else "yuv420p")
        clip = read_clip(path, [0, 0])
        assert probe(path).num_frames == 1
        assert torch.equal(clip.frames, decode_all(path)[[0, 0]])


def test_a_live_stream_without_duration_is_counted(footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage, "live.webm", "libvpx", options={"cpu-used": "8"}, container_options={"live": "1"})
    with av.open(str(path)) as container:
        assert container.duration is None
    assert probe(path).num_frames == 48
    check_random_reads(path, decode_all(path), 3)


def test_sound_that_outlasts_the_pictures_is_no_failure(footage: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.height, video.width, video.pix_fmt = 64, 84, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for i, pixels in enumerate(footage[:10].numpy()):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame(format="s16", layout="mono", samples=4400)  # 0.55 s beside 0.4 s of pictures
        sound.sample_rate, sound.pts = 8000, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    last = probe(path).num_frames - 1
    assert torch.equal(read_clip(path, [last]).frames[0], decode_all(path)[-1])


def test_truncated_files_give_what_they_hold_and_name_what_they_lack(footage: Tensor, write_video: Writer) -> None:
    whole = write_video(footage, "whole.mkv", "ffv1")
    expected = decode_all(whole)
    cut = whole.with_name("cut.mkv")
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with VideoReader(cut) as reader:
        assert reader.info.num_frames == 48
        assert torch.equal(reader.read([3, 9]).frames, expected[[3, 9]])
        with pytest.raises(VideoError, match=r"cut\.mkv: frame index 40 of 48 was asked for, but decoding ends") as e:
            reader.read([3, 40])
        assert "\n" not in str(e.value)
        assert torch.equal(reader.read([9, 3]).frames, expected[[9, 3]])  # still of use


def test_the_last_positions_of_a_rounded_grid_give_the_last_frame(footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage, "round.mkv", "ffv1")
    expected = decode_all(path)
    with VideoReader(path) as reader:
        object.__setattr__(reader.info, "num_frames", 51)  # as a container that rounds up a little would say
        assert torch.equal(reader.read([48, 49]).frames, expected[[47, 47]])
        with pytest.raises(VideoError, match="decoding ends after 47"):
            reader.read([50])


def test_a_broken_packet_ends_the_video_there(footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage, "broken.avi", "mpeg4", options={"g": "1"})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    position, size = packets[30]
    data[position + 8 : position + 8 + size] = b"\xff" * size
    path.write_bytes(data)
    with VideoReader(path) as reader:
        assert reader.read([0, 29]).num_frames == 2
        with pytest.raises(VideoError, match=r"broken\.avi: frame index 30") as caught:
            reader.read([30])
    assert "invalid data" in str(caught.value)


def test_indices_out_of_range(footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage[:5], "short.mkv", "ffv1")
    with VideoReader(path) as reader:
        for wrong in ([5], [0, -1], [3, 1000]):
            with pytest.raises(VideoError, match=r"short\.mkv: frame index .* out of range; .* 0 to 4"):
                reader.read(wrong)
        with pytest.raises(VideoError, match="no frame index"):
            reader.read([])


def test_files_that_are_no_videos_are_refused_in_one_line(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    (tmp_path / "picture.png").rename(tmp_path / "picture.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "text.txt").write_text("not a video\n" * 100)
    (tmp_path / "noise.mkv").write_bytes(random.Random(0).randbytes(5000))
    reasons = {
        "missing.mp4": "no such file",
        "": "is a folder",
        "empty.mp4": "the file is empty",
        "text.mp4": "not a readable video",
        "text.txt": "no moving picture",
        "noise.mkv": "not a readable video",
        "sound.wav": "no moving picture",
        "picture.mp4": "no moving picture",
    }
    for name, reason in reasons.items():
        with pytest.raises(VideoError, match=reason) as caught:
            probe(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_files_are_closed_whatever_happens(footage: Tensor, write_video: Writer, tmp_path: Path) -> None:
    path = write_video(footage[:20], "gop.gif", "gif", "rgb8")
    (tmp_path / "text.mp4").write_text("not a video")
    num_open = count_open_files()
    reader = VideoReader(path)
    reader.read([15, 2])
    reader.read([1])  # back to the start, which a gif does by opening again
    assert count_open_files() == num_open + 1
    reader.close()
    reader.close()
    for action in (lambda: probe(tmp_path / "text.mp4"), lambda: read_clip(path, [99]), lambda: read_clip(path, [])):
        with pytest.raises(VideoError):
            action()
    assert count_open_files() == num_open


def test_names_that_look_like_protocols(footage: Tensor, write_video: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(footage[:2], "plain.mkv", "ffv1")
    monkeypatch.chdir(path.parent)
    for name in ("concat:a.mkv", "-dash.mkv", "100%d.mkv", "zwölf ü.mkv"):
        Path(name).write_bytes(path.read_bytes())
        assert read_clip(name, [1]).num_frames == 1


def test_repr_tells_what_is_read() -> None:
    with VideoReader(FALLS / "ADL" / "Subject1_ADL_10.mp4") as reader:
        assert repr(reader) == "VideoReader('Subject1_ADL_10.mp4', 118 frames, 128x228, 30.00 fps, h264)"
        assert math.isclose(reader.info.duration_seconds, 118 / 30, abs_tol=1e-3)
