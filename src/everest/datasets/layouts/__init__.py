"""The official layouts of known data sets: their annotation files, and how their videos are called.

Each module reads the annotations of one data set into :class:`Annotations`; ``everest.datasets.index`` finds the files.
"""

from everest.datasets.layouts.annotations import Annotations, Entry
from everest.datasets.layouts.hmdb51 import read_hmdb51
from everest.datasets.layouts.kinetics import read_kinetics
from everest.datasets.layouts.oscc import read_oscc
from everest.datasets.layouts.ssv2 import read_ssv2
from everest.datasets.layouts.ucf101 import read_ucf101

LAYOUTS = {
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "kinetics400": read_kinetics,
    "ssv2": read_ssv2,
    "oscc": read_oscc,
}
"""Format -> function of the folder with the annotations and the fold."""

__all__ = ["LAYOUTS", "Annotations", "Entry"]
