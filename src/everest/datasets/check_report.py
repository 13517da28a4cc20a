"""The result of a check: for programs, for a person, and as a manifest without what cannot be used."""

import re
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from everest.datasets.check_rows import CheckRow
from everest.datasets.manifest import write_manifest
from everest.datasets.records import ClipRecord, Manifest
from everest.errors import DataError
from everest.texts import printable
from everest.video.source import say_location

NUM_LISTED = 5  # files that a summary names for one reason
_NUM_COMMON = 6  # codecs and sizes that a summary names


@dataclass(frozen=True, repr=False)
class CheckReport:
    """What a check has found.

    Attributes:
        manifest: What was checked.
        rows: One row per distinct file, in the order of the manifest.
        num_reused: Rows of an earlier check that still hold.
    """

    manifest: Manifest
    rows: tuple[CheckRow, ...]
    num_reused: int = 0

    def __repr__(self) -> str:
        return f"CheckReport({len(self.rows)} files, {len(self.unreadable)} unreadable, {self.manifest})"

    @property
    def unreadable(self) -> tuple[CheckRow, ...]:
        """Files that training could not use, or not every clip of."""
        return tuple(row for row in self.rows if row.fault is not None)

    @property
    def faulty_records(self) -> tuple[ClipRecord, ...]:
        """Clips that training could not use."""
        faulty = {(row.path, span) for row in self.rows for span in row.faulty_spans}
        return tuple(r for r in self.manifest.records if (r.path, (r.start_seconds, r.end_seconds)) in faulty)

    @property
    def num_unlabelled(self) -> int:
        """Clips without a label."""
        return sum(record.label is None for record in self.manifest.records)

    def clean(self) -> Manifest:
        """Take the clips that can be used. Classes keep their names and numbers, also those that lost every clip.

        Raises:
            DataError: There are none.
        """
        faulty = set(self.faulty_records)
        records = tuple(record for record in self.manifest.records if record not in faulty)
        if not records:
            raise DataError(f"{self.manifest.source}: none of the {len(self.manifest)} clips can be used")
        return replace(self.manifest, records=records)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return {
            "manifest": say_location(self.manifest.source),
            "digest": self.manifest.digest,
            "num_files": len(self.rows),
            "num_clips": len(self.manifest),
            "num_unreadable": len(self.unreadable),
            "num_unusable_clips": len(self.faulty_records),
            "num_unlabelled_clips": self.num_unlabelled,
            "num_reused": self.num_reused,
            "files": [row.to_dict() for row in self.rows],
        }

    def summary(self) -> str:
        """Tell a person, in a few lines."""
        opened = [row for row in self.rows if row.num_frames]
        num_bytes = sum(row.num_bytes for row in self.rows)
        reused = f", {self.num_reused} of them by an earlier check" if self.num_reused else ""
        lines = [f"{_plural(len(self.rows), 'file')} checked ({_bytes_text(num_bytes)}){reused}"]
        lines += _describe(opened) if opened else []
        grouped = _grouped((row.path, row.fault) for row in self.rows if row.fault is not None)
        warned = _grouped((row.path, text) for row in self.rows for text in row.warnings)
        if warned:
            lines += ["warnings, which keep nothing from being used:", *warned]
        if 0 < self.num_unlabelled < len(self.manifest):
            lines.append(f"{_plural(self.num_unlabelled, 'clip')} of {len(self.manifest)} without a label")
        if grouped:
            lines += [f"{_plural(len(self.unreadable), 'file')} cannot be read:", *grouped]
        else:
            lines.append("every file can be read")
        return "\n".join(lines)


@dataclass(frozen=True)
class Quarantine:
    """A manifest that was written without the clips that cannot be used.

    Attributes:
        path: The manifest.
        num_clips: Clips in it.
        num_left_out: Clips that are not.
        emptied_classes: Classes that lost every clip; they keep their number.
    """

    path: Path
    num_clips: int
    num_left_out: int
    emptied_classes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return {
            "path": str(self.path),
            "num_clips": self.num_clips,
            "num_left_out": self.num_left_out,
            "emptied_classes": list(self.emptied_classes),
        }

    def summary(self) -> str:
        """Tell a person, in a line or two."""
        text = f"written: {self.path}, {_plural(self.num_clips, 'clip')}; left out: {self.num_left_out}"
        if not self.emptied_classes:
            return text
        return f"{text}\n{_plural(len(self.emptied_classes), 'class')} without any clip now: " + ", ".join(
            self.emptied_classes[:NUM_LISTED]
        )


def write_quarantine(report: CheckReport, path: str | Path) -> Quarantine:
    """Write a manifest of the clips that can be used.

    Args:
        report: The check.
        path: The CSV file to make.

    Raises:
        DataError: There are none.
        ManifestError: The file exists, or cannot be written.
    """
    clean = report.clean()
    write_manifest(clean, path)
    left = {record.label for record in clean.records}
    had = {record.label for record in report.manifest.records if record.label is not None}
    emptied = tuple(clean.class_names[label] for label in sorted(had - left))
    return Quarantine(Path(path), len(clean), len(report.manifest) - len(clean), emptied)


def _describe(rows: list[CheckRow]) -> list[str]:
    """Say what the files are that can be opened."""
    seconds = [row.duration_seconds for row in rows]
    rates = [round(row.fps, 2) for row in rows]
    variable = sum(row.is_constant_rate is False for row in rows)
    turned = sum(row.rotation_degrees != 0 for row in rows)
    lines = [
        f"  codecs: {_common(f'{row.codec} {row.pixel_format}'.strip() for row in rows)}",
        f"  containers: {_common(row.container for row in rows)}",
        f"  sizes (height x width): {_common(f'{row.height}x{row.width}' for row in rows)}",
        f"  frames per second: {_range(rates)}" + (f"; variable in {_plural(variable, 'file')}" if variable else ""),
        f"  seconds: {_range(seconds)}; {sum(seconds) / 3600:.2f} hours in all",
    ]
    return [*lines, f"  turned to be upright: {_plural(turned, 'file')}"] if turned else lines


def _common(values: Iterable[str]) -> str:
    counts = Counter(values).most_common()
    more = f", {len(counts) - _NUM_COMMON} others" if len(counts) > _NUM_COMMON else ""
    return ", ".join(f"{name} ({number})" for name, number in counts[:_NUM_COMMON]) + more


def _range(values: list[float]) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{low:g}" if low == high else f"{low:.4g} to {high:.4g}, median {middle:.4g}"


def _grouped(texts: Iterable[tuple[Path, str]]) -> list[str]:
    """List files by what is said of them; numbers and names that differ make no other group."""
    groups: dict[str, list[tuple[Path, str]]] = {}
    for path, text in texts:
        key = re.sub(r"[0-9.]+", "0", text.split(" as /")[0])
        groups.setdefault(key, []).append((path, text))
    lines = []
    for members in sorted(groups.values(), key=len, reverse=True):
        lines.append(f"  {len(members)} x {printable(members[0][1])}")
        lines += [f"      {printable(say_location(path))}" for path, _ in members[:NUM_LISTED]]
        lines += [f"      and {len(members) - NUM_LISTED} more"] if len(members) > NUM_LISTED else []
    return lines


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def _bytes_text(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
