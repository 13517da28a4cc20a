"""Which frames make a clip: arithmetic on indices, no pixels.

Indices are positions on the constant time grid of a video (see ``reader.py``). ``num_available`` is the number of
positions, ``num_frames`` the number of frames of the clip (T).
"""

import math

import torch


def frame_step(stride: int, fps: float | None, video_fps: float) -> float:
    """Compute how many positions lie from one sampled frame to the next.

    Args:
        stride: Positions from frame to frame, used when ``fps`` is None.
        fps: Sampled frames per second, which makes the step depend on the video.
        video_fps: Positions per second of the video.
    """
    return video_fps / fps if fps is not None else float(stride)


def dense_indices(num_available: int, num_frames: int, step: float, start: float) -> list[int]:
    """Take frames at equal distances.

    A clip that reaches beyond the end repeats the last frame. Repeated frames do not change, so the selection of
    tokens by change leaves them out.

    Args:
        num_available: Positions of the video, at least 1.
        num_frames: Frames of the clip.
        step: Positions from one frame to the next.
        start: Position of the first frame.

    Returns:
        ``num_frames`` indices, never falling, 0 to ``num_available - 1``.
    """
    # Halves go up: Python's round() would send 0.5, 1.5, 2.5 to 0, 2, 2 and repeat a frame.
    return [min(max(math.floor(start + i * step + 0.5), 0), num_available - 1) for i in range(num_frames)]


def max_start(num_available: int, num_frames: int, step: float) -> float:
    """Find the last start from which no frame has to be repeated.

    From there the clip ends with the last frame of the video.

    Returns:
        A position of at least 0; 0 when the video is shorter than the clip.
    """
    return max(num_available - 1 - (num_frames - 1) * step, 0.0)


def random_start(num_available: int, num_frames: int, step: float, generator: torch.Generator) -> float:
    """Draw a start, uniform over 0 to :func:`max_start`.

    Where the step is a whole number the start is one as well, and every possible one is equally likely.
    """
    last = max_start(num_available, num_frames, step)
    draw = float(torch.rand((), generator=generator, dtype=torch.float64))
    return float(int(draw * (last + 1))) if float(step).is_integer() else draw * last


def view_starts(num_available: int, num_frames: int, step: float, num_segments: int) -> list[float]:
    """Spread the clips of an evaluation evenly over a video, from its first frame to its last.

    Args:
        num_available: Positions of the video.
        num_frames: Frames of a clip.
        step: Positions from one frame to the next.
        num_segments: Number of clips; a single one is taken from the middle.

    Returns:
        ``num_segments`` starts, never falling, 0 to :func:`max_start`.
    """
    last = max_start(num_available, num_frames, step)
    if num_segments == 1:
        return [last / 2]
    return [last * i / (num_segments - 1) for i in range(num_segments)]


def segment_indices(
    num_available: int, num_frames: int, generator: torch.Generator | None, offset: float = 0.5
) -> list[int]:
    """Take one frame from each of ``num_frames`` equal parts of a video.

    Args:
        num_available: Positions of the video, at least 1.
        num_frames: Frames of the clip.
        generator: Decides the place in each part; None takes the same place in all.
        offset: That place, as a share of the part, 0 (its first frame) to 1 (its last).

    Returns:
        ``num_frames`` indices, never falling. A video with fewer frames than parts repeats some.
    """
    if generator is None:
        shares = [offset] * num_frames
    else:
        shares = torch.rand(num_frames, generator=generator, dtype=torch.float64).tolist()
    length = num_available / num_frames
    return [min(int((i + share) * length), num_available - 1) for i, share in enumerate(shares)]
