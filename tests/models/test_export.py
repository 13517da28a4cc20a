"""Models with their selection inside can be exported and compiled: no shape depends on data.

Shapes: B clips, N tokens, P pixels of a tubelet.
"""

import pytest
import torch
from small_models import FINETUNE, PRETRAIN, autoencoder, classifier, random_patches
from torch import Tensor, nn

from everest.config import Task
from everest.models import Classifier, MaskedAutoencoder


class WithSelection(nn.Module):
    """A model that chooses its tokens itself: patches [B, N, P] to what the model says of them."""

    def __init__(self, model: MaskedAutoencoder | Classifier) -> None:
        super().__init__()
        self.model = model
        self.task: Task = "finetune" if isinstance(model, Classifier) else "pretrain"

    def forward(self, patches: Tensor) -> Tensor:
        config = FINETUNE if self.task == "finetune" else PRETRAIN
        out = self.model(patches, self.model.encoder.select(patches, config, self.task))
        return out if isinstance(out, Tensor) else out.values


def test_an_exported_classifier_chooses_and_answers_as_before() -> None:
    model = WithSelection(classifier()).eval()
    exported = torch.export.export(model, (random_patches(seed=1),), strict=False).module()
    for seed in (1, 2):  # other clips, other tokens
        patches = random_patches(seed=seed)
        torch.testing.assert_close(exported(patches), model(patches), rtol=0, atol=1e-6)


def test_an_exported_autoencoder_draws_and_predicts_as_before() -> None:
    model = WithSelection(autoencoder()).eval()
    exported = torch.export.export(model, (random_patches(seed=1),), strict=False).module()
    patches, outputs = random_patches(seed=2), []
    for function in (exported, model):
        torch.manual_seed(0)
        outputs.append(function(patches))
    assert outputs[0].shape == (2, 20, 96)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("known", [True, False])
def test_the_encoder_compiles_into_one_graph(known: bool) -> None:
    model, patches = classifier(), random_patches()
    config = FINETUNE if known else FINETUNE.model_copy(update={"method": "tube"})
    selection = model.encoder.select(patches, config, "finetune")
    assert (selection.embedded is not None) is known
    compiled = torch.compile(model.encoder, backend="aot_eager", fullgraph=True)
    outcomes = []
    for encode in (model.encoder, compiled):
        model.zero_grad()
        encoded = encode(patches, selection)
        encoded.square().sum().backward()
        outcomes.append((encoded, [parameter.grad for parameter in model.encoder.parameters()]))
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-5, atol=1e-5)
