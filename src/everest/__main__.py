"""``python -m everest``: the program, also for launchers such as ``torchrun -m everest``."""

import sys

from everest.cli import program

sys.exit(program())
