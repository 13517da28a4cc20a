"""Pictures and reports: kept tokens, scores, chosen frames, reconstructions, charts, one-file HTML pages."""

from everest.visualize.charts import accuracy_bars, confusion, counts_per_slot, curves
from everest.visualize.inspection import Cost, Drawn, draw_inspection, inspection_report, numbers
from everest.visualize.report import Figure, Report, Section, Table, encode_picture
from everest.visualize.run_curves import RunCurves, draw_runs
from everest.visualize.sections import (
    FramesExample,
    SelectionExample,
    curves_section,
    evaluation_section,
    frames_section,
    reconstruction_section,
    selection_section,
    settings_section,
    timings_section,
)
from everest.visualize.tokens import draw_pairs, draw_scores, draw_selection, slot_pictures, strip

__all__ = [
    "Cost",
    "Drawn",
    "Figure",
    "FramesExample",
    "Report",
    "RunCurves",
    "Section",
    "SelectionExample",
    "Table",
    "accuracy_bars",
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
    "evaluation_section",
    "frames_section",
    "inspection_report",
    "numbers",
    "reconstruction_section",
    "selection_section",
    "settings_section",
    "slot_pictures",
    "strip",
    "timings_section",
]
