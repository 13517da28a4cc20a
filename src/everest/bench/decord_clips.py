"""The way to read clips that VideoMAE and the official release take, written from its description, to compare with.

decord decodes the wanted frames; Pillow crops and scales each of them (multi-scale crop); the frames become float32
tensors, divided by 255 and normalised, in the worker. decord is optional: ``pip install decord``.

Shapes: C channels, T frames, H height, W width.
"""

import importlib.util
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from everest.config import AugmentConfig, ClipConfig
from everest.datasets import ClipRecord
from everest.datasets.clips import SampleKey, make_generator
from everest.datasets.spans import sampled_step
from everest.errors import VideoError
from everest.video.augment import multi_scale_box
from everest.video.sampling import dense_indices, random_start

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def has_decord() -> bool:
    """Whether decord is installed."""
    return importlib.util.find_spec("decord") is not None


class DecordClips(Dataset["Tensor | None"]):
    """Random training clips as float32 [C, T, H, W], normalised; None where decord cannot read the file.

    Frames and boxes are drawn as by :class:`everest.datasets.TrainClips`, which takes the same keys.

    Args:
        records: Whole files.
        clip: Length, size and stride.
        seed: Base of all randomness.
    """

    def __init__(self, records: tuple[ClipRecord, ...], clip: ClipConfig, seed: int = 0) -> None:
        self.records, self.clip, self.seed = records, clip, seed
        self.augment = AugmentConfig(crop="multi_scale")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: SampleKey) -> Tensor | None:
        epoch, position, index = key
        generator = make_generator(self.seed, epoch, position, 0)
        try:
            frames = self.read(self.records[index], generator)
        except VideoError:
            return None
        return self.transform(frames, generator)

    def read(self, record: ClipRecord, generator: torch.Generator) -> "np.ndarray[Any, Any]":
        """Decode the frames of a random clip, shape [T, H, W, C], uint8."""
        import decord as untyped

        decord: Any = untyped
        try:
            reader = decord.VideoReader(str(record.path), num_threads=1)
            fps = float(reader.get_avg_fps())
            first = round((record.start_seconds or 0.0) * fps)
            last = len(reader) if record.end_seconds is None else min(round(record.end_seconds * fps), len(reader))
            step = sampled_step(self.clip, self.clip.num_frames, fps)
            num = max(last - first, 1)
            start = random_start(num, self.clip.num_frames, step, generator)
            indices = [first + index for index in dense_indices(num, self.clip.num_frames, step, start)]
            frames: np.ndarray[Any, Any] = reader.get_batch(indices).asnumpy()
        except (decord.DECORDError, RuntimeError, IndexError) as error:
            raise VideoError(f"{record.path}: {str(error).splitlines()[0]}") from None
        return frames

    def transform(self, frames: "np.ndarray[Any, Any]", generator: torch.Generator) -> Tensor:
        """Crop, scale, and normalise every frame by itself, as Pillow images."""
        height, width = self.clip.height, self.clip.width
        images = [Image.fromarray(frame).convert("RGB") for frame in frames]
        H, W = frames.shape[1:3]
        box = multi_scale_box(H, W, self.augment.crop_scales, height / width, generator)
        top, left, h, w = box
        size = (width, height)
        images = [
            image.crop((left, top, left + w, top + h)).resize(size, Image.Resampling.BILINEAR) for image in images
        ]
        stacked = np.concatenate([np.asarray(image) for image in images], axis=2)  # [H,W,T*C]
        tensor = torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float().div(255)  # [T*C,H,W]
        tensor = tensor.view(len(images), 3, height, width)  # [T,C,H,W]
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        return tensor.sub_(mean).div_(std).transpose(0, 1).contiguous()  # [C,T,H,W]
