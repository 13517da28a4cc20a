"""The classifier: encoder, mean over the kept tokens, norm, linear head.

Shapes: B clips, N tokens, V kept tokens, P pixels of a tubelet, D width, K classes.
"""

from torch import Tensor, nn

from everest.models.dropping import FeatureDropout
from everest.models.encoder import Encoder
from everest.models.layers import NORM_EPSILON, initialize
from everest.models.tubelets import Tubelets
from everest.models.varlen import mean_of_clips
from everest.tokens import TokenGrid, TokenSelection

HEAD_SCALE = 0.001  # the head starts almost at zero, so that the first steps do not disturb what was learnt before


class Classifier(nn.Module):
    """A ViT classifier that looks at the kept tokens only.

    Args:
        encoder: Without its final norm.
        width: D.
        num_classes: K.
        dropout: Before the head, in training.
    """

    def __init__(self, encoder: Encoder, *, width: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.fc_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.dropout = FeatureDropout(dropout, width)
        self.head = nn.Linear(width, num_classes)
        self.apply(initialize)
        nn.init.trunc_normal_(self.head.weight, std=0.02 * HEAD_SCALE)

    @property
    def grid(self) -> TokenGrid:
        """The tokens of a clip."""
        return self.encoder.grid

    def features(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Tensor:
        """Describe each clip by one vector: [B, N, P] to [B, D]."""
        x = self.encoder(patches, selection)  # [B, V, D]
        lengths = [count.num_visible for count in selection.counts]
        return self.fc_norm(mean_of_clips(x, lengths) if lengths else x.mean(dim=1))  # type: ignore[no-any-return]

    def forward(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Tensor:
        """Classify clips.

        Args:
            patches: All tubelets of the clips, shape [B, N, P], normalised or as bytes; only kept ones are touched.
            selection: Which tokens are kept.

        Returns:
            Logits, shape [B, K].
        """
        return self.head(self.dropout(self.features(patches, selection)))  # type: ignore[no-any-return]
