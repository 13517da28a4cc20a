"""Pages about runs: of one, written when it ends or at any time later, and of several side by side."""

from everest.reports.clips import ShownClips, find_clips, look_at
from everest.reports.comparison import ComparisonReport, compare_reports
from everest.reports.finishing import report_finished
from everest.reports.run_report import RunReport, make_report

__all__ = [
    "ComparisonReport",
    "RunReport",
    "ShownClips",
    "compare_reports",
    "find_clips",
    "look_at",
    "make_report",
    "report_finished",
]
