"""Pictures and reports: kept tokens, scores, chosen frames, reconstructions, charts, one-file HTML pages."""

from everest.visualize.accuracy import HardClip, evaluation_section, hardest_section
from everest.visualize.animation import animate_small, encode_webp
from everest.visualize.charts import accuracy_bars, confusion, counts_per_slot, curves
from everest.visualize.inspection import Cost, Drawn, draw_inspection, inspection_report, numbers, say_repeats
from everest.visualize.report import Card, Figure, Folded, Report, Section, Table, encode_picture
from everest.visualize.run_curves import RunCurves, draw_runs
from everest.visualize.sections import (
    FramesExample,
    SelectionExample,
    curves_section,
    frames_section,
    reconstruction_section,
    selection_section,
    settings_section,
    timings_section,
)
from everest.visualize.tokens import draw_pairs, draw_scores, draw_selection, slot_pictures, strip
from everest.visualize.training_curves import training_section

__all__ = [
    "Card",
    "Cost",
    "Drawn",
    "Figure",
    "Folded",
    "FramesExample",
    "HardClip",
    "Report",
    "RunCurves",
    "Section",
    "SelectionExample",
    "Table",
    "accuracy_bars",
    "animate_small",
    "confusion",
    "counts_per_slot",
    "curves",
    "curves_section",
    "draw_inspection",
    "draw_pairs",
    "draw_runs",
    "draw_scores",
    "draw_selection",
    "encode_picture",
    "encode_webp",
    "evaluation_section",
    "frames_section",
    "hardest_section",
    "inspection_report",
    "numbers",
    "reconstruction_section",
    "say_repeats",
    "selection_section",
    "settings_section",
    "slot_pictures",
    "strip",
    "timings_section",
    "training_section",
]
