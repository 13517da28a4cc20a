"""Laws of the classifier.

Shapes: B clips, V kept tokens, D width, K classes.
"""

import torch
from small_models import CLASS_NAMES, FINETUNE, classifier, encoder, random_patches

from everest.models import Classifier


def test_logits_are_the_head_of_the_normalised_mean() -> None:
    model, patches = classifier().double(), random_patches().double()
    selection = model.encoder.select(patches, FINETUNE, "finetune")
    mean = model.encoder(patches, selection).mean(dim=1)
    centred = mean - mean.mean(dim=-1, keepdim=True)
    normed = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    features = normed * model.fc_norm.weight + model.fc_norm.bias
    torch.testing.assert_close(model.features(patches, selection), features, rtol=0, atol=1e-12)
    logits = features @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(patches, selection), logits, rtol=0, atol=1e-12)
    assert logits.shape == (2, len(CLASS_NAMES))


def test_a_fresh_head_is_almost_zero() -> None:
    torch.manual_seed(0)
    model = Classifier(encoder(final_norm=False), width=24, num_classes=400)
    assert 0.9 < float(model.head.weight.detach().std()) / (0.001 * 0.02) < 1.1
    assert torch.count_nonzero(model.head.bias) == 0
    patches = random_patches()
    logits = model(patches, model.encoder.select(patches, FINETUNE, "finetune"))
    assert float(logits.detach().abs().max()) < 1e-3


def test_dropout_acts_before_the_head_and_in_training_only() -> None:
    torch.manual_seed(0)
    model = Classifier(encoder(final_norm=False), width=24, num_classes=3, dropout=0.5)
    patches = random_patches()
    selection = model.encoder.select(patches, FINETUNE, "finetune")
    assert torch.equal(model.features(patches, selection), model.features(patches, selection))
    assert not torch.equal(model.train()(patches, selection), model(patches, selection))
    assert torch.equal(model.eval()(patches, selection), model(patches, selection))


def test_every_parameter_takes_part_in_the_logits() -> None:
    model, patches = classifier(), random_patches()
    model(patches, model.encoder.select(patches, FINETUNE, "finetune")).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
