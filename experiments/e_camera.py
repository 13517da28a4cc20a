"""What does a moving camera do to the choice of tokens, and what does following it win back?

    python experiments/e_camera.py --data runs/experiments/data-moving-camera --out runs/experiments \
        --still runs/experiments/data

First, where the budget goes (``e_budget-PROFILE.json``): clips of still cameras are seen through a window that pans or
shakes. What changes under the still camera is the foreground, in clips where that is less than a quarter of all
pixels. How many of the kept tokens show none of it is what the camera costs, without and with
``selection.camera=moving``. The score is the paper's, of the embedding that was pre-trained with seed 0.
``precision`` keeps as many tokens as show foreground: a perfect choice then has 1, and a random one the share of the
foreground.

Then, what it does to accuracy: pre-training and fine-tuning with 60 % on clips of a still, a panning and a shaking
camera, with either setting and with random tokens, the data of ``moving_camera.py``; and crossed, fine-tuned with
random tokens after pre-training on those that change, and the other way round.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from a_pretraining import AT_RANDOM, EVEREST, SIXTY
from command import parser_of, run_from
from lists import Bench
from moving_camera import look_through, pan, shake
from profiles import Settings
from results import paired_over_clips
from still_parts import action_of, groups_of
from time_tasks import BASE_FPS
from torch import Tensor
from trials import Arm, encoder_run

import everest
from everest.config import Camera
from everest.models import Encoder, load_model
from everest.models.scoring import score_tokens
from everest.models.tubelets import cut
from everest.tokens import TokenGrid, num_tokens, patchify, rank_by_score

CAMERAS: tuple[Camera, ...] = ("still", "moving")
_STILL: Settings = {"selection.camera": "still"}
_MOVING: Settings = {"selection.camera": "moving"}
_RANDOMLY: Settings = {"selection.method": "random_equal"}
_WHOLE: Settings = {"clip.fps": BASE_FPS, "evaluation.num_segments": 1}  # the files hold just the frames of a clip


def arm(name: str, choice: Settings, tunings: Mapping[str, Settings]) -> Arm:
    """Pre-train by a choice of tokens, and fine-tune in several ways."""
    return Arm(name, EVEREST | choice, {how: its | _WHOLE for how, its in tunings.items()}, probed=("frozen",))


_CHANGE, _RANDOM = "60% that change", "60% at random"  # crossed: is it what one is pre-trained on, or fine-tuned on?
ARMS = (
    arm("camera=still", _STILL, {"60%": SIXTY | _STILL, _RANDOM: AT_RANDOM}),
    arm("camera=moving", _MOVING, {"60%": SIXTY | _MOVING}),
    arm("random", _RANDOMLY, {"60%": AT_RANDOM | _RANDOMLY, _CHANGE: SIXTY}),
)
KEEP = 0.3
SIDE = 48  # pixels of a clip, in which moves are told
MOVES = {"still": (0.0,), "pan": (0.5, 1.0, 2.0, 3.0), "shake": (0.5, 1.0, 2.0)}
CHANGES = 12.0  # grey levels from which on a pixel of a still camera counts as foreground
MOST_FOREGROUND = 0.25  # where more of the pixels changes, the camera was not still
TASKS = ("falls", "fights")


def foreground(frames: Tensor, step: int) -> Tensor:
    """Mark what changes under a still camera, in either frame of a pair: [T, H, W, C] to [T, H, W, 1], 0 or 1."""
    changed = (frames[step:].float() - frames[:-step].float()).abs().amax(dim=-1, keepdim=True) > CHANGES
    marked = torch.zeros(*frames.shape[:3], 1, dtype=torch.bool)
    marked[step:] |= changed
    marked[:-step] |= changed
    return marked.float()


def shows_foreground(marked: Tensor, grid: TokenGrid) -> Tensor:
    """Say which tokens show something of it, a twentieth of their pixels at least: [T, H, W, 1] to [N]."""
    clips = marked.permute(3, 0, 1, 2).expand(3, -1, -1, -1)[None].contiguous()  # [1, 3, T, H, W]
    return patchify(clips, grid)[0].mean(dim=-1) > 0.05


def measure(encoder: Encoder, mean_std: tuple[Any, Any], frames: Tensor, number: int) -> Iterator[dict[str, Any]]:
    """Move the camera over a clip in all ways and see where the budget goes."""
    grid = encoder.grid
    side, marked = grid.clip_shape[1], foreground(frames, grid.tubelet_size)
    for kind, strengths in MOVES.items():
        for strength in strengths:
            places = (shake if kind == "shake" else pan)(strength * side / SIDE, number)
            seen = look_through(frames, places, side).round().clamp(0, 255).to(torch.uint8)
            shown = shows_foreground(look_through(marked, places, side), grid)
            if not shown.any():  # the window has left it
                continue
            patches = cut(seen.permute(3, 0, 1, 2)[None].contiguous(), grid, *mean_std)
            for camera in CAMERAS:
                scores, _ = score_tokens(encoder.patch_embed, patches, grid, "exact", camera=camera)
                ranked = rank_by_score(scores)[0]
                kept = ranked[: num_tokens(KEEP, grid.num_tokens)]
                yield {
                    "moves": kind,
                    "pixels": strength,
                    "camera": camera,
                    "background": 1 - shown[kept].float().mean().item(),
                    "foreground_found": (shown[kept].sum() / shown.sum()).item(),
                    "precision": shown[ranked[: int(shown.sum())]].float().mean().item(),
                    "chance": 1 - shown.float().mean().item(),
                }


def budget(run: Path, data: Path) -> list[dict[str, Any]]:
    """Measure where the budget goes: the mean over clips, of each way that a camera moves."""
    model, info = load_model(run)
    encoder = model.encoder
    assert isinstance(encoder, Encoder)  # noqa: S101 - a pre-trained ViT
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for task in (name for name in TASKS if (data / "tasks" / name).is_dir()):
        groups = groups_of(data / "tasks" / task / "manifest.csv")
        for number, record in enumerate(everest.load_data(data / "tasks" / task / "manifest.csv").records):
            frames = action_of(record.path, task)
            share = foreground(frames, encoder.grid.tubelet_size).mean()
            if not 0 < share < MOST_FOREGROUND:
                continue
            for row in measure(encoder, (info.mean, info.std), frames, number):
                where = (task, row["moves"], row["pixels"], row["camera"])
                found[where].append(row | {"group": groups[record.path.name]})
    return [averaged(key, found) for key in found]


def averaged(key: tuple[Any, ...], found: Mapping[tuple[Any, ...], list[dict[str, Any]]]) -> dict[str, Any]:
    """Average over clips; where the camera is followed, also say what that wins in precision, with its interval."""
    rows = found[key]
    means = {
        name: mean(row[name] for row in rows) for name in ("background", "foreground_found", "precision", "chance")
    }
    result = dict(zip(("task", "moves", "pixels", "camera"), key, strict=True)) | {"clips": len(rows)} | means
    if key[3] == "moving":
        still = [row["precision"] for row in found[*key[:3], "still"]]
        won = paired_over_clips([row["precision"] for row in rows], still, [row["group"] for row in rows])
        result["won"] = [won.mean, won.low, won.high]
    return result


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--still", type=Path, required=True, help="the folder that prepare.py has made")
    given = parser.parse_args(words)

    of_still = sorted((given.still / "tasks").glob("*/manifest.csv"))

    def measured(bench: Bench) -> object:
        return budget(encoder_run(replace(bench, data=given.still), EVEREST), given.still)

    return run_from(given, "e", ARMS, once=("e_budget", measured), once_of=of_still)


if __name__ == "__main__":
    raise SystemExit(run())
