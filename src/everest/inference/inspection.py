"""What the method makes of one clip of a video: scores, tokens by any selection, chosen frames, a reconstruction.

Without a checkpoint the embedding that scores tokens is a random one. That is less odd than it sounds: a random linear
map keeps lengths nearly as they are, so its scores are close to those of the pixels themselves, which are given too.

Shapes: T frames, T' candidate frames, H height, W width, N tokens, t time slots, n candidate pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from everest.config import (
    WHOLE_CLIP_ARCHS,
    CheckpointInfo,
    ClipConfig,
    EvaluationConfig,
    ModelConfig,
    Scoring,
    SelectionConfig,
    SelectionMethod,
    num_sampled_frames,
)
from everest.datasets import ClipRecord, ViewClips
from everest.datasets.spans import sampled_step, span_of
from everest.errors import ConfigError, VideoError, WeightsError
from everest.inference.predict import check_span
from everest.inference.reconstruct import Reconstruction, reconstruct
from everest.models import Classifier, Encoder, MaskedAutoencoder, build_autoencoder, load_model, select_input
from everest.models.scoring import score_as_set
from everest.models.tubelets import cut
from everest.tokens import FrameSelection, TokenGrid, TokenSelection, take_pairs
from everest.video.backends import open_video

WITHOUT_CHECKPOINT = CheckpointInfo(
    task="pretrain",
    model=ModelConfig(size="tiny"),
    clip=ClipConfig(),
    selection=SelectionConfig(keep_ratio=0.3, encode_ratio=0.1),
)
"""What is shown where no checkpoint says otherwise: clips and ratios of the paper's pre-training."""


@dataclass(frozen=True)
class Looker:
    """What scores tokens, and how tokens are chosen.

    Attributes:
        encoder: Its embedding scores tokens.
        info: Clip, selection and frame selection.
        name: Which embedding it is, for people.
        model: Predicts pixels; None where nothing does.
        classifier: Names classes; None where nothing does.
    """

    encoder: Encoder
    info: CheckpointInfo
    name: str
    model: MaskedAutoencoder | None = None
    classifier: Classifier | None = None

    @classmethod
    def random(cls, info: CheckpointInfo = WITHOUT_CHECKPOINT, seed: int = 0) -> "Looker":
        """Take a fresh embedding."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            encoder = build_autoencoder(info.model, info.clip).encoder
        return cls(encoder.eval(), info, f"a random embedding, seed {seed}")

    @classmethod
    def load(cls, checkpoint: str | Path, device: torch.device | None = None) -> "Looker":
        """Take the embedding of a checkpoint, and what it predicts.

        Args:
            checkpoint: A run folder or a weights file.
            device: Where to compute; None: on the CPU.

        Raises:
            WeightsError: It cannot be read, or belongs to a network that takes whole clips.
        """
        model, info = load_model(Path(checkpoint).expanduser())
        if info.model.arch in WHOLE_CLIP_ARCHS or not isinstance(model.encoder, Encoder):
            raise WeightsError(f"{checkpoint}: {info.model.arch} takes whole clips, so no tokens are chosen: use a ViT")
        pixels = model if isinstance(model, MaskedAutoencoder) and info.objective.name == "pixels" else None
        classifier = model if isinstance(model, Classifier) else None
        model.to(device).eval()
        return cls(model.encoder, info, f"the embedding of {Path(checkpoint).name}", pixels, classifier)

    def with_info(self, info: CheckpointInfo) -> "Looker":
        """Choose tokens in another way."""
        return replace(self, info=info)


@dataclass(frozen=True, eq=False, repr=False)
class Inspection:
    """One clip, and what the method makes of it.

    Attributes:
        source: The video.
        clip: What the encoder would be given, shape [3, T, H, W], uint8.
        seconds: When each frame of the clip is in the video.
        grid: Its tokens.
        info: How tokens were chosen.
        embedding: What scored them, for people.
        scores: Change of every token [N], by what measured it: ``embedding`` or ``pixels``.
        selections: Tokens, by method; the first is the one that ``info`` names.
        candidates: Frames to choose from, shape [3, T', H, W]; None where frames are not selected.
        frames: Which of them were chosen.
        reconstruction: What a pre-trained model predicts, from the tokens of the first selection; or None.
    """

    source: Path
    clip: Tensor
    seconds: tuple[float, ...]
    grid: TokenGrid
    info: CheckpointInfo
    embedding: str
    scores: dict[str, Tensor]
    selections: dict[SelectionMethod, TokenSelection]
    candidates: Tensor | None = None
    frames: FrameSelection | None = None
    reconstruction: Reconstruction | None = None

    def __repr__(self) -> str:
        return f"Inspection({self.source.name!r}, {list(self.clip.shape)}, {', '.join(self.selections)})"

    @property
    def repeated(self) -> tuple[int, ...]:
        """Places of the frames that are the same as the one before, as the video has no more."""
        return tuple(n for n in range(1, len(self.seconds)) if self.seconds[n] == self.seconds[n - 1])

    def per_slot(self, method: SelectionMethod) -> list[int]:
        """Count the kept tokens, encoded or predicted, of each time slot: t numbers."""
        slots = self.kept(method) // self.grid.tokens_per_slot
        return torch.bincount(slots, minlength=self.grid.num_slots).tolist()

    def kept(self, method: SelectionMethod) -> Tensor:
        """Numbers of all tokens that are computed, encoded or predicted."""
        selection = self.selections[method]
        return torch.cat([selection.visible[0], selection.target[0]])

    def covered(self, method: SelectionMethod, *, encoded: bool = False) -> float:
        """Share of the clip's change, 0 to 1, that lies in kept tokens, or in encoded ones; 0 where nothing changes."""
        scores = self.scores["embedding"]
        tokens = self.selections[method].visible[0] if encoded else self.kept(method)
        return float(scores[tokens].sum() / scores.sum().clamp(min=1e-12))


def inspect_video(
    looker: Looker,
    video: str | Path | ClipRecord,
    *,
    start_seconds: float | None = None,
    compare: Sequence[SelectionMethod] = (),
    seed: int = 0,
) -> Inspection:
    """Look at one clip of a video.

    Args:
        looker: What scores tokens, and how they are chosen.
        video: A file, or a record of a manifest.
        start_seconds: Where the clip begins; None: so that it is in the middle.
        compare: Further selections, at the same ratios.
        seed: Of what is random in a selection: which kept tokens are encoded, which tubes are drawn.

    Raises:
        VideoError: The video cannot be read, or is over before the start.
        ConfigError: The start is no time in a video.
        SelectionError: The ratios leave a selection no token to predict.
    """
    record = video if isinstance(video, ClipRecord) else ClipRecord(Path(video))
    sampled, seconds = read_clip(record, looker.info, start_seconds)
    clip, frames = choose_frames(looker, sampled, seed)
    grid = looker.encoder.grid
    if frames is not None:
        size = grid.tubelet_size
        seconds = tuple(seconds[pair * size + step] for pair in frames.pairs[0].tolist() for step in range(size))
    methods = dict.fromkeys((looker.info.selection.method, *compare))
    patches = cut(clip, grid, looker.info.mean, looker.info.std)
    measures: dict[str, Scoring] = {"embedding": "exact", "pixels": "pixels"}
    scores = {
        name: score_as_set(looker.encoder.patch_embed, patches, grid, _measured_on(looker.info, scoring))[0][0]
        for name, scoring in measures.items()
    }
    return Inspection(
        record.path,
        clip[0],
        seconds,
        grid,
        looker.info,
        looker.name,
        scores,
        {method: _select(looker, clip, method, seed) for method in methods},
        None if frames is None else sampled[0],
        frames,
        _reconstruct(looker, clip, seed),
    )


def read_clip(
    record: ClipRecord, info: CheckpointInfo, start: float | None = None, *, time_limit_seconds: float | None = None
) -> tuple[Tensor, tuple[float, ...]]:
    """Read one clip, and say when its frames are: [1, 3, T', H, W] uint8, T' numbers.

    Args:
        record: The video or span.
        info: How large the clip is, and how its frames are taken.
        start: Where it begins, in seconds; None: so that it is in the middle.
        time_limit_seconds: For opening and for reading it; None: as for evaluation.

    Raises:
        VideoError: The video cannot be read, not in this time, or is over before the start.
        ConfigError: The start is no time in a video.
    """
    check_span(start, None)
    num_frames = num_sampled_frames(info)
    evaluation = EvaluationConfig(num_segments=1, num_crops=1)
    if time_limit_seconds is not None:
        evaluation = evaluation.model_copy(update={"time_limit_seconds": time_limit_seconds})
    with open_video(record.source, time_limit_seconds=time_limit_seconds) as reader:
        found = reader.info
    if start is not None:
        own = num_frames * sampled_step(info.clip, num_frames, found.fps) / found.fps
        record = replace(record, start_seconds=start, end_seconds=start + own)
    first, num_available = span_of(record, found)
    clips = ViewClips([record], info.clip, evaluation, num_sampled_frames=num_frames)
    views = clips[0]
    if views.error is not None:
        raise VideoError(f"{record.path}: {views.error}")
    places = clips.plan(num_available, found.fps)[0]
    return views.frames, tuple((first + place) / found.fps for place in places)


def choose_frames(looker: Looker, sampled: Tensor, seed: int) -> tuple[Tensor, FrameSelection | None]:
    """Make a clip of candidate frames: [1, 3, T', H, W] to [1, 3, T, H, W]."""
    info = looker.info
    if not info.frame_selection.enabled:
        return sampled, None
    _, frames = looker.encoder.select_frames(
        sampled,
        info.frame_selection,
        info.selection,
        mean=info.mean,
        std=info.std,
        generator=_generator(seed, sampled.device),
        random=info.task == "pretrain",
    )
    if frames is None:
        raise ConfigError("frame selection is turned on and chose nothing")
    return take_pairs(sampled, frames.pairs, looker.encoder.grid.tubelet_size), frames


def _select(looker: Looker, clip: Tensor, method: SelectionMethod, seed: int) -> TokenSelection:
    info = _fixed(looker.info, method)
    return select_input(looker.encoder, clip, info, generator=_generator(seed)).selection


def _reconstruct(looker: Looker, clip: Tensor, seed: int) -> Reconstruction | None:
    if looker.model is None or looker.info.task != "pretrain":
        return None
    info = _fixed(looker.info, looker.info.selection.method)
    return reconstruct(looker.model, clip, info, _generator(seed))


def _fixed(info: CheckpointInfo, method: SelectionMethod) -> CheckpointInfo:
    """The description for frames that are chosen already, and tokens to be chosen by a method."""
    selection = SelectionConfig.model_validate(info.selection.model_dump() | {"method": method})
    frames = info.frame_selection.model_copy(update={"enabled": False})
    return info.model_copy(update={"selection": selection, "frame_selection": frames})


def _measured_on(info: CheckpointInfo, scoring: Scoring) -> SelectionConfig:
    """Distance and camera as they are set, whatever the tokens are chosen by."""
    return info.selection.model_copy(update={"scoring": scoring})


def _generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)
