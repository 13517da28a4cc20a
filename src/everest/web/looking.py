"""What is seen of one video: it is read once, scored once, and its tokens are chosen anew whenever a slider moves.

Shapes: T frames, T' candidate frames, H height, W width, N tokens, D width of the embedding, P pixels of a tubelet.
"""

import threading
from collections.abc import Hashable
from dataclasses import dataclass, replace

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
from everest.models.scoring import score_as_set
from everest.models.tubelets import cut
from everest.settings import parse
from everest.tokens import FrameSelection, TokenSelection
from everest.video.backends import open_video
from everest.web.clips import Clips, SampledClip, ScoredClip

MAX_ALPHA = 4.0
READ_SECONDS = 10.0  # for a clip: others wait for theirs meanwhile
SEED = 0  # of what is random in a selection, so that moving a slider changes nothing else


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


class VideoLook:
    """One video, and what was computed of it already; of several threads that ask for the same, one computes it.

    Args:
        record: The video.
        moment: Second that a clip should show if nobody says where it begins; None: the middle of the video.
        clips: Keeps what was computed, also of other videos.

    Raises:
        VideoError: It cannot be opened.
    """

    def __init__(self, record: ClipRecord, moment: float | None = None, clips: Clips | None = None) -> None:
        self.record, self.moment = record, moment
        self.clips = Clips() if clips is None else clips
        with open_video(record.source, time_limit_seconds=READ_SECONDS) as reader:
            self.info = reader.info
        self._reads, self._scores = threading.Lock(), threading.Lock()  # scoring does not wait for another reading

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

    def is_read(self, looker: Looker, choice: Choice) -> bool:
        """Whether the clip is there, so that choosing its tokens takes no long time."""
        return self.clips.get(SampledClip, self, _read_key(looker, choice)) is not None

    @torch.no_grad()
    def choose(self, looker: Looker, choice: Choice) -> "Chosen":
        """Choose tokens, as :func:`everest.inference.inspect_video` does; read and score the clip if need be.

        Raises:
            EverestError: The video cannot be read, or the choice leaves no token to predict.
        """
        looker = looker.with_info(chosen_info(looker.info, choice))
        found = self._score(looker, choice)
        return Chosen(self.record, looker, found, _select(looker, found))

    def _read(self, looker: Looker, choice: Choice) -> SampledClip:
        key = _read_key(looker, choice)
        if (sampled := self.clips.get(SampledClip, self, key)) is not None:
            return sampled
        with self._reads:
            if (sampled := self.clips.get(SampledClip, self, key)) is None:
                read = read_clip(self.record, looker.info, choice.start_seconds, time_limit_seconds=READ_SECONDS)
                self.clips.keep(self, key, sampled := SampledClip(*read))
            return sampled

    def _score(self, looker: Looker, choice: Choice) -> ScoredClip:
        """Read and score the clip, unless that was done before."""
        info = looker.info
        counted = info.selection.keep_ratio if info.frame_selection.enabled else None  # chooses frames as well
        key = (_read_key(looker, choice), counted)
        sampled = self._read(looker, choice)
        with self._scores:
            if (scored := self.clips.get(ScoredClip, self, key)) is None:
                self.clips.keep(self, key, scored := _scored(looker, sampled.frames, sampled.seconds))
            return scored


@dataclass(frozen=True, eq=False)
class Chosen:
    """A clip of a video with the tokens that were chosen of it, and what a model makes of them.

    Attributes:
        record: The video.
        looker: What has looked at it, with the settings of a person.
        found: The clip and its scores.
        selection: The tokens.
    """

    record: ClipRecord
    looker: Looker
    found: ScoredClip
    selection: TokenSelection

    def seen(self) -> Inspection:
        """Say what was chosen."""
        found, selection, info = self.found, self.selection, self.looker.info
        on_cpu = replace(selection, visible=selection.visible.cpu(), target=selection.target.cpu(), embedded=None)
        return Inspection(
            self.record.path,
            found.clip,
            found.seconds,
            self.looker.encoder.grid,
            info,
            self.looker.name,
            {"embedding": found.scores[0].cpu()},
            {info.selection.method: replace(on_cpu, scores=None)},
            found.candidates,
            found.frames,
        )

    @torch.no_grad()
    def reconstruct(self) -> Reconstruction | None:
        """Predict the pixels of hidden tokens; None where nothing here does."""
        model, info = self.looker.model, self.looker.info
        if model is None or info.task != "pretrain":
            return None
        predicted = model(self.found.patches, self.selection)
        return assemble(ModelInput(self.found.patches, self.selection), predicted, info)

    @torch.no_grad()
    def predict(self, top: int = 5) -> tuple[tuple[str, float], ...] | None:
        """Name the most probable classes of the clip, with probabilities; None where nothing here does."""
        classifier, info = self.looker.classifier, self.looker.info
        if classifier is None or info.task != "finetune":
            return None
        probabilities = classifier(self.found.patches, self.selection)[0].float().softmax(dim=-1).cpu()
        order: list[int] = rank_classes(probabilities)[:top].tolist()
        return tuple((info.class_names[place], float(probabilities[place])) for place in order)


def _read_key(looker: Looker, choice: Choice) -> Hashable:
    return looker.encoder, looker.info.task, choice.start_seconds, choice.alpha


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
    scores, embedded = score_as_set(looker.encoder.patch_embed, patches, grid, info.selection)
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
