"""The supervised rows of the paper's table: what each of our networks multiplies, beside the table's number.

The table mixes numbers of one view with numbers of three, as their papers report them; each row here says which it is.
"""

from dataclasses import dataclass
from typing import Any

from everest.bench.macs import count_macs
from everest.config import Arch, ModelSize

NUM_CLASSES = 400


@dataclass(frozen=True)
class Row:
    """One network in one setting.

    Attributes:
        name: As in the table.
        arch, size: The network.
        num_frames, side, tubelet_size: Of a clip, in frames and pixels.
        views: Views that the table's number counts.
        table: The table's number, 10^9 multiply-adds.
        keep_ratio: Share of the tokens; None where all are kept.
    """

    name: str
    arch: Arch
    size: ModelSize
    num_frames: int
    side: int
    tubelet_size: int
    views: int
    table: float
    keep_ratio: float | None = None


ROWS = (
    Row("MViT-S", "mvit_s", "base", 16, 224, 2, 1, 32.9),
    Row("MViT-B", "mvit_b", "base", 16, 224, 2, 1, 70.5),
    Row("ViViT-L FE", "vivit", "large", 128, 224, 2, 1, 3980.0),
    Row("XViT", "xvit", "base", 8, 224, 1, 3, 425.0),
    Row("Motionformer", "motionformer", "base", 16, 224, 2, 1, 369.5),
    Row("TimeSformer", "timesformer", "base", 8, 224, 1, 3, 590.0),
    # As many tokens, chosen from twice as many frames, or from larger ones.
    Row("K-centered XViT", "xvit", "base", 16, 224, 1, 3, 425.0, 0.5),
    Row("K-centered Motionformer", "motionformer", "base", 16, 320, 2, 1, 369.5, 0.49),
    Row("K-centered TimeSformer", "timesformer", "base", 16, 224, 1, 3, 590.0, 0.5),
)


def count_rows(rows: tuple[Row, ...] = ROWS) -> dict[str, Any]:
    """Count every row.

    Args:
        rows: Which ones.

    Returns:
        Values that JSON can hold: ``rows``, each with the settings of :class:`Row` and ``num_parameters``, ``tokens``
        that are encoded, ``gmacs`` of one view, ``gmacs_of_views`` of all views that the table counts, and its
        ``ratio`` to the table.
    """
    return {"num_classes": NUM_CLASSES, "rows": [_count_row(row) for row in rows]}


def format_rows(values: dict[str, Any]) -> str:
    """Say the result of :func:`count_rows` to people, as a table."""
    titles = ("clip", "tokens", "M param", "GMAC", "views", "all", "table")
    widths = (13, 7, 8, 8, 5, 8, 7)
    head = f"{'network':<24} {' '.join(map(str.rjust, titles, widths))} ratio"
    lines = [
        f"{row['name']:<24} {_clip(row):>13} {row['tokens']:>7} {row['num_parameters'] / 1e6:>8.1f} "
        f"{row['gmacs']:>8.1f} {row['views']:>5} {row['gmacs_of_views']:>8.1f} {row['table']:>7} {row['ratio']:.3f}"
        for row in values["rows"]
    ]
    note = "clip: frames x pixels / frames of a token; all: of the views that the table counts"
    return "\n".join([head, *lines, note])


def _count_row(row: Row) -> dict[str, Any]:
    counted = count_macs(
        row.size,
        "finetune",
        # Which tokens are kept does not change the count: keys and values of a slot are padded to all of its places.
        "all" if row.keep_ratio is None else "random_equal",
        num_frames=row.num_frames,
        height=row.side,
        width=row.side,
        num_classes=NUM_CLASSES,
        keep_ratio=row.keep_ratio,
        arch=row.arch,
        tubelet_size=row.tubelet_size,
    )
    of_views = counted["gmacs"] * row.views
    return {
        **vars(row),
        "num_parameters": counted["num_parameters"],
        "tokens": counted["tokens"]["visible"],
        "gmacs": counted["gmacs"],
        "gmacs_of_views": of_views,
        "ratio": of_views / row.table,
    }


def _clip(row: dict[str, Any]) -> str:
    return f"{row['num_frames']}x{row['side']}/{row['tubelet_size']}"
