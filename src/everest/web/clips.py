"""Clips that were read and scored last, of all videos together: not more bytes than the server may hold.

Shapes: T frames, T' candidate frames, H height, W width, N tokens, D width of the embedding, P pixels of a tubelet.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from everest.models.tubelets import Tubelets
from everest.tokens import FrameSelection

MAX_BYTES = 2**30
MAX_EACH = 6  # of one video: three that were read and what was scored of them, for somebody who goes back and forth


@dataclass(frozen=True, eq=False)
class SampledClip:
    """A clip as it was read.

    Attributes:
        frames: Shape [1, 3, T', H, W], uint8.
        seconds: When each frame is in the video.
    """

    frames: Tensor
    seconds: tuple[float, ...]

    @property
    def num_bytes(self) -> int:
        """What it takes."""
        return self.frames.nbytes


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

    @property
    def num_bytes(self) -> int:
        """What it takes; frames that it shares with the clip as it was read are counted with both."""
        patches = self.patches.pixels if isinstance(self.patches, Tubelets) else self.patches
        tensors = (self.clip, patches, self.scores, self.embedded, self.candidates)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


Kind = TypeVar("Kind", SampledClip, ScoredClip)


class Clips:
    """What was used last, for several threads.

    Args:
        max_bytes: Of all of it; what was used last stays, however large it is.
        max_each: Clips of one owner.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_each: int = MAX_EACH) -> None:
        self._max_bytes, self._max_each = max_bytes, max_each
        self._clips: OrderedDict[tuple[object, type, Hashable], SampledClip | ScoredClip] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """What all of it takes."""
        return sum(clip.num_bytes for clip in self._clips.values())

    def get(self, kind: type[Kind], owner: object, key: Hashable) -> Kind | None:
        """Give a clip of a kind; None where there is none, or no more."""
        place = (owner, kind, key)
        with self._lock:
            clip = self._clips.get(place)
            if not isinstance(clip, kind):
                return None
            self._clips.move_to_end(place)
            return clip

    def keep(self, owner: object, key: Hashable, clip: SampledClip | ScoredClip) -> None:
        """Keep a clip, and drop what was not used for longest."""
        with self._lock:
            self._clips[owner, type(clip), key] = clip
            own = [place for place in self._clips if place[0] is owner]
            for place in own[: -self._max_each]:
                del self._clips[place]
            while self.num_bytes > self._max_bytes and len(self._clips) > 1:
                self._clips.popitem(last=False)

    def drop(self, owner: object) -> None:
        """Forget all clips of one owner."""
        with self._lock:
            for place in [place for place in self._clips if place[0] is owner]:
                del self._clips[place]
