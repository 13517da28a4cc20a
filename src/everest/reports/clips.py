"""The clips that a report shows: found again, looked at, and made into sections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from everest.datasets import ClipRecord, Manifest, load_data
from everest.errors import ConfigError, DataError, SelectionError
from everest.history import Run
from everest.inference import Inspection, Looker, inspect_video
from everest.video.source import is_url
from everest.visualize import (
    FramesExample,
    Section,
    SelectionExample,
    frames_section,
    reconstruction_section,
    selection_section,
)
from everest.visualize.inspection import NAMES

CANNOT_BE_SHOWN = (DataError, SelectionError, ConfigError)  # of one clip
MAX_UNREADABLE = 3  # one after the other; then nothing more is tried


@dataclass(frozen=True, repr=False)
class ShownClips:
    """The data of a run, as far as it can be shown.

    Attributes:
        data: All of it, with its splits; None where it is not here.
        why_not: Why there is none, for people.
        learnt: Digest of the clips that were learnt from.
    """

    data: Manifest | None
    why_not: str = ""
    learnt: str = field(default="", repr=False)

    def __repr__(self) -> str:
        return f"ShownClips({self.data!r}, {self.why_not!r})"

    def part(self, digest: str) -> Manifest | None:
        """Find the part of the data that has a digest; None where no part has."""
        if self.data is None or not digest:
            return None
        parts = (self.data, *(self.data.split(name) for name in self.data.splits))
        return next((part for part in parts if part.digest == digest), None)

    def examples(self, count: int) -> tuple[dict[str, ClipRecord], bool]:
        """Choose a few clips of different classes and files, of those that were not learnt from where there are any.

        Returns:
            Clips by name, and whether they were learnt from.
        """
        if self.data is None:
            return {}, False
        held_out = next((self.data.split(name) for name in ("test", "val") if name in self.data.splits), None)
        part = held_out or (self.data.split("train") if "train" in self.data.splits else self.data)
        first_of: dict[object, ClipRecord] = {}
        for record in part.records:
            first_of.setdefault(record.path if record.label is None else record.label, record)
        candidates = list(first_of.values())
        chosen = [candidates[number * len(candidates) // count] for number in range(min(count, len(candidates)))]
        chosen = list({id(record): record for record in chosen}.values())
        return {self.name(record): record for record in chosen}, part.digest == self.learnt or held_out is None

    def name(self, record: ClipRecord) -> str:
        """Name a clip for people: its class, file and place."""
        return name_clip(record, () if self.data is None else self.data.class_names)


def name_clip(record: ClipRecord, class_names: tuple[str, ...]) -> str:
    """Name a clip for people: its class, file and place."""
    begins = "" if record.start_seconds is None else f", {record.start_seconds:g} s"
    place = f"{record.path.stem}{begins}"
    return place if record.label is None else f"{class_names[record.label]} ({place})"


def clips_of(data: Manifest, learnt: str) -> ShownClips:
    """Take the data of a run that has just ended, unless it would have to wait for a network.

    Args:
        data: All of it, with its splits.
        learnt: Digest of the clips that were learnt from.
    """
    if any(record.member is not None and is_url(record.member.shard) for record in data.records):
        return ShownClips(None, "its clips are at a URL: name them with --data to see some", learnt)
    return ShownClips(data, learnt=learnt)


def find_clips(run: Run, given: str | Path | None = None) -> ShownClips:
    """Find the clips that a run learnt from, and those that were held out.

    What a run's folder says of its data is believed only where the list that is there has the digest that it had: the
    folder may come from somebody else. Nothing is fetched from a URL unless it is given.

    Args:
        run: The run.
        given: Where the clips are; None: where they were.

    Raises:
        DataError: What is given cannot be used.
    """
    learnt = str(run.data.get("part_digest", ""))
    share = run.settings.get("data.holdout")
    holdout = share if isinstance(share, float) and 0 < share < 1 else None
    if given is not None:
        return ShownClips(load_data(given, holdout), learnt=learnt)
    source = run.data.get("source")
    if not isinstance(source, str) or not source:
        return ShownClips(None, "the folder does not say which clips it learnt from")
    if is_url(source):
        return ShownClips(None, "its clips are at a URL: name them with --data to see some")
    try:
        data = load_data(Path(source), holdout)
    except DataError:
        return ShownClips(None, "its clips are not where they were: name them with --data to see some")
    if data.source_digest != run.data.get("manifest_digest"):
        return ShownClips(None, "the list of its clips has changed since: name the old one with --data to see some")
    return ShownClips(data, learnt=learnt)


def look_at(looker: Looker, records: Mapping[str, ClipRecord]) -> tuple[dict[str, Inspection], list[str]]:
    """Look at clips, by name; those that cannot be read are named with the reason."""
    found: dict[str, Inspection] = {}
    problems: list[str] = []
    in_a_row = 0
    for name, record in records.items():
        if in_a_row == MAX_UNREADABLE:
            problems.append(f"{name}: not tried any more")
            continue
        try:
            found[name] = inspect_video(looker, record)
            in_a_row = 0
        except CANNOT_BE_SHOWN as error:
            problems.append(f"{name}: {error}")
            in_a_row += 1
    return found, problems


def selection_of(found: Mapping[str, Inspection]) -> Section:
    """Show what was kept of clips."""
    shown = []
    for name, each in found.items():
        selection = each.selections[each.info.selection.method]
        scores = each.scores["embedding"]
        shown.append(SelectionExample(name, each.clip, selection.visible[0], selection.target[0], scores, each.grid))
    methods = {each.info.selection.method for each in found.values()}
    if methods <= {"rero"}:
        return selection_section(shown)
    return selection_section(shown, chosen=f"Which ones are used: {'; '.join(NAMES[method] for method in methods)}.")


def reconstructions_of(found: Mapping[str, Inspection]) -> Section | None:
    """Show what is predicted of clips; None where nothing is."""
    shown = {name: each.reconstruction for name, each in found.items() if each.reconstruction is not None}
    return reconstruction_section(shown) if shown else None


def frames_of(found: Mapping[str, Inspection], heading: str = "Selected frames") -> Section | None:
    """Show which frames were chosen; None where all are taken."""
    shown = [
        FramesExample(name, each.candidates, each.frames.pairs[0], each.frames.counts[0], each.grid.tubelet_size)
        for name, each in found.items()
        if each.candidates is not None and each.frames is not None
    ]
    return frames_section(shown, heading) if shown else None
