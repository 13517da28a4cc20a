"""The supervised rows of the paper's table as encoders of the classifier: see docs/supervised.md."""

from everest.models.supervised.attention import SupervisedBlock
from everest.models.supervised.base import SupervisedEncoder, TokenListEncoder, WholeClipEncoder
from everest.models.supervised.build import build_supervised_encoder

__all__ = ["SupervisedBlock", "SupervisedEncoder", "TokenListEncoder", "WholeClipEncoder", "build_supervised_encoder"]
