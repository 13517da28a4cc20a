"""The official layouts of known data sets: their annotation files, and how their videos are called.

Each module reads the annotations of one data set into :class:`Annotations`; :func:`match` finds the files.
"""

from collections.abc import Callable
from dataclasses import dataclass

from everest.datasets.layouts.annotations import Annotations, Entry
from everest.datasets.layouts.hmdb51 import is_hmdb51, read_hmdb51
from everest.datasets.layouts.kinetics import is_kinetics, read_kinetics
from everest.datasets.layouts.matching import Matches, match
from everest.datasets.layouts.oscc import is_oscc, read_oscc
from everest.datasets.layouts.ssv2 import is_ssv2, read_ssv2
from everest.datasets.layouts.ucf101 import is_ucf101, read_ucf101
from everest.datasets.tree import Tree


@dataclass(frozen=True)
class Layout:
    """How to read one data set.

    Attributes:
        read: Gives the annotations that lie below a folder, for a fold.
        is_there: Whether a folder looks like it.
        has_folds: Whether there is more than one official split.
    """

    read: Callable[[Tree, int], Annotations]
    is_there: Callable[[Tree], bool]
    has_folds: bool = False


LAYOUTS = {
    "ucf101": Layout(read_ucf101, is_ucf101, has_folds=True),
    "hmdb51": Layout(read_hmdb51, is_hmdb51, has_folds=True),
    "kinetics400": Layout(read_kinetics, is_kinetics),
    "ssv2": Layout(read_ssv2, is_ssv2),
    "oscc": Layout(read_oscc, is_oscc),
}

__all__ = ["LAYOUTS", "Annotations", "Entry", "Layout", "Matches", "match"]
