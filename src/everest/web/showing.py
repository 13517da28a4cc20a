"""What is sent to the page: numbers, and pictures as rows of squares, one square for each time slot.

Shapes: T frames, T' candidate frames, H height, W width; t time slots or candidate pairs; h, w height and width of a
picture.
"""

import hashlib
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from everest.config import VARYING, SelectionMethod, Task
from everest.inference import Inspection, Reconstruction
from everest.models import grid_of
from everest.tokens import num_tokens
from everest.video.backends import open_video
from everest.visualize import Figure, draw_scores, draw_selection, encode_picture, slot_pictures
from everest.visualize.inspection import NAMES
from everest.visualize.sections import RECONSTRUCTION_ROWS
from everest.visualize.tokens import Picture
from everest.web.costs import LookCost
from everest.web.looking import VideoLook
from everest.web.models import Lookers

THUMBNAIL = 112  # pixels of the short side of a candidate frame
ALPHAS = (1.0, 1.5, 2.0, 3.0)
ALL_BUT_ENCODED = ("tube", "random", "all", "rlt")  # in pre-training, these predict whatever they do not encode
FIRST_METHODS = ("rero", "tube", "random", "rlt", "adaptive")


def describe_lookers(lookers: Lookers) -> dict[str, Any]:
    """Say what there is to choose from, and what is chosen at first."""
    known = (*FIRST_METHODS, *(name for name in get_args(SelectionMethod) if name not in FIRST_METHODS))
    return {
        "first": lookers.first,
        "is_random": lookers.is_random,
        "can_reconstruct": lookers.by_task["pretrain"].model is not None,
        "can_predict": lookers.by_task["finetune"].classifier is not None,
        "methods": [_describe_method(name) for name in known],
        "alphas": list(ALPHAS),
        "tasks": {task: _describe_task(lookers, task) for task in lookers.by_task},
    }


def _describe_method(name: SelectionMethod) -> dict[str, str]:
    short, _, what = NAMES[name].partition(": ")
    return {"name": name, "short": short, "what": what}


def _describe_task(lookers: Lookers, task: Task) -> dict[str, Any]:
    looker = lookers.by_task[task]
    info, grid = looker.info, grid_of(looker.info.model, looker.info.clip)
    encoded = num_tokens(info.selection.encode_ratio, grid.num_tokens)
    least = encoded / grid.num_tokens + 0.02 if task == "pretrain" else 0.02  # something has to be left to predict
    alpha = info.frame_selection.alpha if info.frame_selection.enabled else 1.0
    return {
        "keep_ratio": info.selection.keep_ratio,
        "least_keep_ratio": round(min(least, 1.0), 2),
        "method": info.selection.method,
        "alpha": alpha,
        "embedding": looker.name,
        "num_tokens": grid.num_tokens,
        "num_frames": info.clip.num_frames,
        "without_ratio": [name for name in NAMES if ignores_ratio(name, task)],
    }


def ignores_ratio(method: SelectionMethod, task: Task) -> bool:
    """Whether moving the keep ratio changes nothing."""
    return method in (ALL_BUT_ENCODED if task == "pretrain" else ("all", "rlt"))


def describe_video(look: VideoLook, lookers: Lookers) -> dict[str, Any]:
    """Say what a video is."""
    info = look.info
    by_task = lookers.by_task.items()
    return {
        "seconds": info.duration_seconds,
        "height": info.height,
        "width": info.width,
        "frames_per_second": info.fps,
        "latest_start": {task: look.latest_start(looker.info) for task, looker in by_task},
        "first_start": {task: look.first_start(looker.info) for task, looker in by_task},
    }


def describe_look(found: Inspection) -> dict[str, Any]:
    """Say in numbers what was chosen."""
    (method,) = found.selections
    selection, grid = found.selections[method], found.grid
    return {
        "num_tokens": grid.num_tokens,
        "num_encoded": len(selection.visible[0]),
        "num_predicted": len(selection.target[0]),
        "per_slot": found.per_slot(method),
        "tokens_per_slot": grid.tokens_per_slot,
        "change_kept": found.covered(method),
        "is_still": not bool(found.scores["embedding"].any()),
        "seconds": list(found.seconds[:: grid.tubelet_size]),
        "end": found.seconds[-1],
        "varies": method in VARYING,
        "embedding": found.embedding,
        "frames": None
        if found.frames is None
        else {"counts": found.frames.counts[0].tolist(), "chosen": found.frames.pairs[0].tolist()},
    }


def describe_cost(cost: LookCost | None) -> dict[str, Any] | None:
    """Say what a selection costs."""
    return None if cost is None else asdict(cost.whole) | {"frames_gmacs": cost.frames_gmacs}


def clip_key(found: Inspection) -> str:
    """Name the clip and its scores, so that a page that shows them already is not sent them again."""
    frames = None if found.frames is None else found.frames.pairs[0].tolist()
    told = repr((found.source, found.info.task, found.seconds, frames, list(found.clip.shape)))
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def draw_clip(found: Inspection) -> dict[str, Any]:
    """Draw what stays while only the tokens are chosen anew: the clip, its scores, the candidate frames."""
    scores = draw_scores(found.clip, found.scores["embedding"], found.grid)
    pictures = {"video": in_a_row(slot_pictures(found.clip, found.grid)), "scores": in_a_row(scores)}
    if found.candidates is not None:
        pictures["candidates"] = in_a_row(_thumbnails(found.candidates[:, :: found.grid.tubelet_size]))
    return pictures


def draw_kept(found: Inspection) -> dict[str, Any]:
    """Draw the tokens: orange encoded, blue predicted, dark dropped."""
    (selection,) = found.selections.values()
    return in_a_row(draw_selection(found.clip, selection.visible[0], selection.target[0], found.grid))


def draw_reconstruction(result: Reconstruction) -> list[dict[str, Any]]:
    """Draw what is predicted, labelled for what it is."""
    grid = result.selection.grid
    clips = (result.original, result.encoded_only, result.with_true_statistics, result.with_visible_statistics)
    rows = zip(RECONSTRUCTION_ROWS, clips, strict=True)
    return [{"label": label, **in_a_row(slot_pictures(clip[0], grid))} for label, clip in rows]


def in_a_row(pictures: Picture) -> dict[str, Any]:
    """Join pictures without gaps, for a page that cuts them apart again: [t, h, w, 3] to an address that holds them."""
    sheet = np.concatenate(list(pictures), axis=1)  # [h, t * w, 3]
    return {"picture": Figure(encode_picture(sheet), "", "").data_uri, "count": len(pictures)}


def thumbnail(look: VideoLook) -> bytes:
    """Make a small picture of a video, of the moment that it shows first."""
    with open_video(look.record.source, time_limit_seconds=10.0) as reader:
        moment = reader.info.duration_seconds / 2 if look.moment is None else look.moment
        place = min(round(moment * reader.info.fps), reader.info.num_frames - 1)
        frame = reader.read([place]).frames  # [1, H, W, 3]
    return encode_picture(_thumbnails(frame.permute(3, 0, 1, 2))[0], "png")


def _thumbnails(frames: Tensor) -> Picture:
    """Make frames small: uint8 [3, t, H, W] to [t, h, w, 3]."""
    scale = min(1.0, THUMBNAIL / min(frames.shape[2:]))
    size = [round(side * scale) for side in frames.shape[2:]]
    small = F.interpolate(frames.transpose(0, 1).float(), size, mode="bilinear", antialias=True)  # [t, 3, h, w]
    pixels: Picture = small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()  # [t, h, w, 3]
    return pixels
