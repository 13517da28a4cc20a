"""Video in: from a file to a uint8 clip of the size that a model takes.

``reader`` decodes chosen frames, ``sampling`` says which, ``transforms`` and ``augment`` give them their size.
"""

from everest.video.augment import ClipChanges, augment_clip, change_clips_on_device
from everest.video.backends import Reader, describe_decoder, open_video
from everest.video.clip import Clip
from everest.video.reader import VideoInfo, VideoReader, probe, read_clip
from everest.video.sampling import (
    dense_indices,
    frame_step,
    max_start,
    random_start,
    segment_indices,
    view_starts,
)
from everest.video.source import ShardMember, VideoSource
from everest.video.transforms import (
    crop_and_resize,
    normalize,
    resize_short_side,
    to_channels_first,
    view_crops,
)

__all__ = [
    "Clip",
    "ClipChanges",
    "Reader",
    "ShardMember",
    "VideoInfo",
    "VideoReader",
    "VideoSource",
    "augment_clip",
    "change_clips_on_device",
    "crop_and_resize",
    "dense_indices",
    "describe_decoder",
    "frame_step",
    "max_start",
    "normalize",
    "open_video",
    "probe",
    "random_start",
    "read_clip",
    "resize_short_side",
    "segment_indices",
    "to_channels_first",
    "view_crops",
    "view_starts",
]
