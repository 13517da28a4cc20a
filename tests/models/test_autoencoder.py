"""Laws of the masked autoencoder.

Shapes: B clips, V visible, M targets, P pixels of a tubelet, E width of the decoder.
"""

from dataclasses import replace

import pytest
import torch
from small_models import GRID, PRETRAIN, autoencoder, random_patches

from everest.errors import SelectionError
from everest.models import Prediction


def test_every_target_gets_the_pixels_of_a_tubelet() -> None:
    model, patches = autoencoder(), random_patches()
    selection = model.encoder.select(patches, PRETRAIN, "pretrain")
    prediction = model(patches, selection)
    assert prediction.selection is selection
    assert prediction.values.shape == (2, 20, GRID.num_pixels)
    assert repr(prediction) == (
        "Prediction([2, 20, 96] for TokenSelection(visible [2, 12], target [2, 20], of 64 tokens))"
    )


def test_predictions_follow_the_order_of_the_targets() -> None:
    model, patches = autoencoder().double(), random_patches().double()
    selection = model.encoder.select(patches, PRETRAIN, "pretrain")
    turned = replace(selection, target=selection.target.flip(1))
    expected = model(patches, selection).values.flip(1)
    torch.testing.assert_close(model(patches, turned).values, expected, rtol=0, atol=1e-12)


def test_a_target_knows_its_place_only() -> None:
    model, patches = autoencoder().double(), random_patches().double()
    selection = model.encoder.select(patches, PRETRAIN, "pretrain")
    values = model(patches, selection).values
    assert len(torch.unique(values[0].detach(), dim=0)) == 20
    model.decoder_positions.zero_()
    same = model(patches, selection).values
    torch.testing.assert_close(same, same[:, :1].expand_as(same), rtol=0, atol=1e-12)


def test_every_parameter_takes_part_in_the_loss() -> None:
    model, patches = autoencoder(), random_patches()
    model(patches, model.encoder.select(patches, PRETRAIN, "pretrain")).values.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_nothing_to_predict_is_refused() -> None:
    model, patches = autoencoder(), random_patches()
    selection = model.encoder.select(patches, PRETRAIN, "pretrain")
    with pytest.raises(SelectionError, match=r"targets \[2, 0\] need as many predictions"):
        model(patches, replace(selection, target=selection.target[:, :0]))
    with pytest.raises(SelectionError, match="need as many predictions"):
        Prediction(torch.zeros(2, 19, GRID.num_pixels), selection)
