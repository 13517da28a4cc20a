"""Moving pictures of what the method does: the clip, its scores and its kept tokens side by side, frame by frame.

Shapes: C channels (3), T frames, H height, W width of a clip; N, V, M tokens, visible, targets; h, w height and width
of a picture.
"""

import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from PIL import Image
from torch import Tensor

from everest.tokens import TokenGrid, TokenSelection
from everest.visualize.tokens import Picture, draw_scores, draw_selection, frame_pictures, strip

GIF_COLORS = 128
SMALL_WIDTH = 168  # pixels
PANELS = ("video", "change of each token", "kept: orange encoded, blue predicted")


def animate(clip: Tensor, scores: Tensor, selection: TokenSelection) -> list[Picture]:
    """Draw three panels for each frame of a clip.

    Args:
        clip: Shape [3, T, H, W], uint8 or values 0 to 1.
        scores: Change of every token, shape [N].
        selection: Of this one clip.

    Returns:
        T pictures [h, w, 3]; sides are even, as video codecs want them.
    """
    grid, visible, target = selection.grid, selection.visible[0], selection.target[0]
    size = grid.tubelet_size
    frames = frame_pictures(clip, grid)  # [T, h, w, 3]
    heat = [draw_scores(clip[:, step:], scores, grid) for step in range(size)]  # of the step-th frame of every slot
    kept = [draw_selection(clip[:, step:], visible, target, grid) for step in range(size)]
    places = [divmod(frame, size) for frame in range(grid.num_slots * size)]
    rows = [(frames[slot * size + step], heat[step][slot], kept[step][slot]) for slot, step in places]
    return [_even(strip([row], captions=PANELS)) for row in rows]


def encode_gif(pictures: Sequence[Picture], frames_per_second: float) -> bytes:
    """Encode pictures [h, w, 3] as a GIF that repeats."""
    images = [Image.fromarray(picture) for picture in pictures]
    palette = _common_palette(images)
    small = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    milliseconds = max(20, round(1000 / frames_per_second))  # browsers show what is shorter more slowly
    small[0].save(
        buffer, format="GIF", save_all=True, append_images=small[1:], duration=milliseconds, loop=0, optimize=False
    )
    return buffer.getvalue()


def animate_small(clip: Tensor, selection: TokenSelection | None, width: int = SMALL_WIDTH) -> list[Picture]:
    """Draw each frame of a clip, and what is computed of it beside it, in few pixels.

    Args:
        clip: Shape [3, T, H, W], uint8 or values 0 to 1.
        selection: Of this one clip; None: all of it, so that there is nothing to show beside it.
        width: Of each of the two, in pixels.

    Returns:
        T pictures [h, w, 3].
    """
    if selection is None:
        whole = TokenGrid(clip.shape[1], 1, 1, 1, clip.shape[3])
        return [_shrunk(frame, width) for frame in frame_pictures(clip, whole)]
    grid, size = selection.grid, selection.grid.tubelet_size
    frames = frame_pictures(clip, grid)  # [T, h, w, 3]
    kept = [draw_selection(clip[:, step:], selection.visible[0], selection.target[0], grid) for step in range(size)]
    beside = [kept[frame % size][frame // size] for frame in range(len(frames))]
    return [
        np.concatenate([_shrunk(one, width), _shrunk(other, width)], axis=1)
        for one, other in zip(frames, beside, strict=True)
    ]


def encode_webp(pictures: Sequence[Picture], frames_per_second: float) -> bytes:
    """Encode pictures [h, w, 3] as a WebP animation that repeats: a fifth of a GIF, with all colours."""
    images = [Image.fromarray(picture) for picture in pictures]
    buffer = io.BytesIO()
    milliseconds = max(20, round(1000 / frames_per_second))
    images[0].save(
        buffer, "WEBP", save_all=True, append_images=images[1:], duration=milliseconds, loop=0, quality=70, method=2
    )
    return buffer.getvalue()


def encode_mp4(pictures: Sequence[Picture], frames_per_second: float) -> bytes:
    """Encode pictures [h, w, 3], of even sides, as an H.264 video that every browser plays."""
    import av

    buffer = io.BytesIO()
    height, width = pictures[0].shape[:2]
    with av.open(buffer, "w", format="mp4") as container:
        rate = Fraction(frames_per_second).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _common_palette(images: Sequence[Image.Image]) -> Image.Image:
    """One palette for all frames, or colours would flicker."""
    shown = images[:: max(1, len(images) // 4)]
    sheet = Image.new("RGB", (shown[0].width, sum(image.height for image in shown)))
    for number, image in enumerate(shown):
        sheet.paste(image, (0, number * image.height))
    return sheet.quantize(GIF_COLORS, method=Image.Quantize.MEDIANCUT)


def _shrunk(picture: Picture, width: int) -> Picture:
    """Bring a picture to a width."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), Image.Resampling.BILINEAR))


def _even(picture: Picture) -> Picture:
    """Widen a picture by a white row or column where a side is odd."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=255)
