"""What is seen of one video: it is read once, scored once, and its tokens are chosen anew whenever a slider moves.

Shapes: T frames, T' candidate frames, H height, W width, N tokens, D width of the embedding, P pixels of a tubelet.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from everest.config import CheckpointInfo, SelectionMethod, Task
from everest.config.names import Config, Ratio
from everest.datasets import ClipRecord
from everest.datasets.spans import sampled_step
from everest.evaluation.metrics import rank_classes
from everest.inference import Inspection, Looker, Reconstruction, assemble
from everest.inference.inspection import choose_frames, read_clip
from everest.models import ModelInput
from everest.models.choosing import SCORED, choose_tokens
from everest.models.scoring import score_tokens
from everest.models.tubelets import Tubelets, cut
from everest.settings import parse
from everest.tokens import FrameSelection, TokenSelection
from everest.video.backends import open_video

MAX_ALPHA = 4.0
MAX_KEPT = 3  # clips of a video that are kept, for somebody who goes back and forth
SEED = 0  # of what is random in a selection, so that moving a slider changes nothing else

Value = TypeVar("Value")


class Choice(Config):
    """What a person has set in the page.

    Attributes:
        task: ``finetune`` looks at a clip to recognise what happens; ``pretrain`` to learn from it.
        method: Which tokens are kept.
        keep_ratio: Share of all tokens that is kept, where the method has one.
        alpha: Candidates for each frame of the clip; 1: frames are not chosen.
        start_seconds: Where the clip begins; None: so that it is in the middle of the video.
    """

    task: Task = "finetune"
    method: SelectionMethod = "rero"
    keep_ratio: float = Ratio
    alpha: float = Field(1.0, ge=1.0, le=MAX_ALPHA)
    start_seconds: float | None = Field(None, ge=0.0, le=1e6)


class Recent(Generic[Value]):
    """The values that were used last."""

    def __init__(self, max_values: int) -> None:
        self._max_values = max_values
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Give the value of a key; it is made if it is not there."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        if len(self._values) > self._max_values:
            self._values.popitem(last=False)
        return self._values[key]


@dataclass(frozen=True, eq=False)
class ScoredClip:
    """A clip, cut and scored.

    Attributes:
        clip: Shape [3, T, H, W], uint8.
        seconds: When each frame is in the video.
        patches: All tubelets, [1, N, P].
        scores: Change of every token, [1, N].
        embedded: Embeddings of all tokens, [1, N, D], where scoring has computed them.
        candidates: Frames to choose from, [3, T', H, W]; None where frames are not chosen.
        frames: Which of them were chosen.
    """

    clip: Tensor
    seconds: tuple[float, ...]
    patches: Tensor | Tubelets
    scores: Tensor
    embedded: Tensor | None
    candidates: Tensor | None
    frames: FrameSelection | None


class VideoLook:
    """One video, and what was computed of it already; of several threads that ask for the same, one computes it.

    Args:
        record: The video.
        moment: Second that a clip should show if nobody says where it begins; None: the middle of the video.

    Raises:
        VideoError: It cannot be opened.
    """

    def __init__(self, record: ClipRecord, moment: float | None = None) -> None:
        self.record, self.moment = record, moment
        with open_video(record.source, time_limit_seconds=10.0) as reader:
            self.info = reader.info
        self._lock = threading.Lock()
        self._sampled: Recent[tuple[Tensor, tuple[float, ...]]] = Recent(MAX_KEPT)
        self._scored: Recent[ScoredClip] = Recent(MAX_KEPT)

    def latest_start(self, info: CheckpointInfo) -> float:
        """Where a clip can begin at the latest and not outlast the video, in seconds; 0 where it is as long."""
        if info.clip.sampling == "segments":
            return 0.0
        return max(0.0, self.info.num_frames / self.info.fps - self._seconds_of_clip(info))

    def first_start(self, info: CheckpointInfo) -> float | None:
        """Where a clip begins if nobody says otherwise, in seconds; None: so that it is in the middle."""
        latest = self.latest_start(info)
        if self.moment is None or latest == 0:
            return None
        return min(max(0.0, self.moment - self._seconds_of_clip(info) / 2), latest)

    def _seconds_of_clip(self, info: CheckpointInfo) -> float:
        return info.clip.num_frames * sampled_step(info.clip, info.clip.num_frames, self.info.fps) / self.info.fps

    @torch.no_grad()
    def see(self, looker: Looker, choice: Choice) -> Inspection:
        """Choose tokens, as :func:`everest.inference.inspect_video` does.

        Raises:
            EverestError: The video cannot be read, or the choice leaves no token to predict.
        """
        looker = looker.with_info(chosen_info(looker.info, choice))
        found = self._score(looker, choice)
        selection = _select(looker, found)
        on_cpu = replace(selection, visible=selection.visible.cpu(), target=selection.target.cpu(), embedded=None)
        return Inspection(
            self.record.path,
            found.clip,
            found.seconds,
            looker.encoder.grid,
            looker.info,
            looker.name,
            {"embedding": found.scores[0].cpu()},
            {choice.method: replace(on_cpu, scores=None)},
            found.candidates,
            found.frames,
        )

    @torch.no_grad()
    def reconstruct(self, looker: Looker, choice: Choice) -> Reconstruction | None:
        """Predict the pixels of hidden tokens; None where nothing here does."""
        if looker.model is None or looker.info.task != "pretrain":
            return None
        looker = looker.with_info(chosen_info(looker.info, choice))
        found = self._score(looker, choice)
        selection = _select(looker, found)
        assert looker.model is not None  # noqa: S101 - for the type checker
        predicted = looker.model(found.patches, selection)
        return assemble(ModelInput(found.patches, selection), predicted, looker.info)

    @torch.no_grad()
    def predict(self, looker: Looker, choice: Choice, top: int = 5) -> tuple[tuple[str, float], ...] | None:
        """Name the most probable classes of the clip, with probabilities; None where nothing here does."""
        if looker.classifier is None or looker.info.task != "finetune":
            return None
        looker = looker.with_info(chosen_info(looker.info, choice))
        found = self._score(looker, choice)
        assert looker.classifier is not None  # noqa: S101 - for the type checker
        logits = looker.classifier(found.patches, _select(looker, found))
        probabilities = logits[0].float().softmax(dim=-1).cpu()
        order: list[int] = rank_classes(probabilities)[:top].tolist()
        return tuple((looker.info.class_names[place], float(probabilities[place])) for place in order)

    def _score(self, looker: Looker, choice: Choice) -> ScoredClip:
        """Read and score the clip, unless that was done before."""
        info = looker.info
        read = (looker.encoder, info.task, choice.start_seconds, choice.alpha)
        counted = info.selection.keep_ratio if info.frame_selection.enabled else None  # chooses frames as well
        with self._lock:
            sampled, seconds = self._sampled.get(read, lambda: read_clip(self.record, info, choice.start_seconds))
            return self._scored.get((*read, counted), lambda: _scored(looker, sampled, seconds))


def chosen_info(info: CheckpointInfo, choice: Choice) -> CheckpointInfo:
    """Describe how a checkpoint chooses tokens and frames where a person has set it otherwise.

    Raises:
        ConfigError: The choice does not go with the checkpoint: more tokens encoded than kept.
    """
    ratio, values = choice.keep_ratio, info.model_dump()
    values["selection"] |= {"method": choice.method, "keep_ratio": ratio}
    values["selection"]["min_keep_ratio"] = min(info.selection.min_keep_ratio, ratio)
    if info.task == "finetune":
        values["selection"]["encode_ratio"] = min(info.selection.encode_ratio, ratio)
    values["frame_selection"] = {"enabled": choice.alpha > 1} | ({"alpha": choice.alpha} if choice.alpha > 1 else {})
    return parse(CheckpointInfo, values)


def _scored(looker: Looker, sampled: Tensor, seconds: tuple[float, ...]) -> ScoredClip:
    """Choose frames where they are to be chosen, and score the tokens: [1, 3, T', H, W] to a clip."""
    info, grid = looker.info, looker.encoder.grid
    on_device = sampled.to(next(looker.encoder.parameters()).device)
    clip, frames = choose_frames(looker, on_device, SEED)  # [1, 3, T, H, W]
    if frames is not None:
        frames = FrameSelection(frames.pairs.cpu(), frames.counts.cpu())
        size, pairs = grid.tubelet_size, frames.pairs[0].tolist()
        seconds = tuple(seconds[pair * size + step] for pair in pairs for step in range(size))
    patches = cut(clip, grid, info.mean, info.std)
    scores, embedded = score_tokens(looker.encoder.patch_embed, patches, grid, info.selection.scoring)
    candidates = None if frames is None else sampled[0]
    return ScoredClip(clip[0].cpu(), seconds, patches, scores, embedded, candidates, frames)


def _select(looker: Looker, found: ScoredClip) -> TokenSelection:
    """Choose tokens from scores that are known, as :meth:`everest.models.Encoder.select` does."""
    info, device = looker.info, found.patches.device
    is_scored = info.selection.method in SCORED
    return choose_tokens(
        found.patches,
        looker.encoder.grid,
        info.selection,
        info.task,
        scores=found.scores if is_scored else None,
        embedded=found.embedded if is_scored else None,
        generator=torch.Generator(device).manual_seed(SEED),
    )
