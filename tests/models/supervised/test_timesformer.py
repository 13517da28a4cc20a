"""Divided attention: the TimeSformer of transformers with all tokens, its definition with some."""

from typing import Any

import pytest
import torch
from supervised_models import GRID, HEADS, WIDTH, attention, chosen, everything, masked, projected, random_module
from torch import Tensor, nn
from transformers import TimesformerConfig, TimesformerForVideoClassification

from everest.models import Classifier
from everest.models.supervised.places import TokenPlaces
from everest.models.supervised.timesformer import DividedBlock, TimeSformer
from everest.tokens import TokenGrid, TokenSelection, patchify

L, SLOTS = GRID.tokens_per_slot, GRID.num_slots
SQUARE = TokenGrid(num_slots=3, num_rows=2, num_columns=2, tubelet_size=1, patch_size=8)  # all that theirs takes


def theirs() -> Any:
    torch.manual_seed(0)
    config = TimesformerConfig(
        image_size=16,
        patch_size=8,
        num_frames=3,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        num_labels=5,
        attention_type="divided_space_time",
    )
    return random_module(TimesformerForVideoClassification(config)).eval()


def with_weights_of(model: Any) -> Classifier:
    """Ours with the weights of theirs; a bias of the keys has no place in ours, since it changes nothing."""
    ours = Classifier(TimeSformer(SQUARE, width=WIDTH, depth=2, num_heads=HEADS), width=WIDTH, num_classes=5)
    ours = ours.double().eval()
    state, embeddings = {}, model.timesformer.embeddings
    state["patch_embed.proj.weight"] = embeddings.patch_embeddings.projection.weight.unsqueeze(2)
    state["patch_embed.proj.bias"] = embeddings.patch_embeddings.projection.bias
    state["places.class_token"] = embeddings.cls_token
    state["places.class_position"] = embeddings.position_embeddings[:, :1]
    state["places.space"] = embeddings.position_embeddings[:, 1:]
    state["places.time"] = embeddings.time_embeddings
    for number, layer in enumerate(model.timesformer.encoder.layer):
        pairs = (
            ("attn.", layer.attention),
            ("time_attn.", layer.temporal_attention),
        )
        for name, module in pairs:
            key = f"blocks.{number}.{name}"
            state[f"{key}qkv.weight"] = module.attention.qkv.weight
            state[f"{key}q_bias"] = module.attention.qkv.bias[:WIDTH]
            state[f"{key}v_bias"] = module.attention.qkv.bias[2 * WIDTH :]
            state |= named(f"{key}proj", module.output.dense)
        for name, module in (
            ("time_norm", layer.temporal_layernorm),
            ("time_proj", layer.temporal_dense),
            ("norm1", layer.layernorm_before),
            ("norm2", layer.layernorm_after),
            ("mlp.fc1", layer.intermediate.dense),
            ("mlp.fc2", layer.output.dense),
        ):
            state |= named(f"blocks.{number}.{name}", module)
    state = {f"encoder.{key}": value for key, value in state.items()}
    state |= named("fc_norm", model.timesformer.layernorm) | named("head", model.classifier)
    ours.load_state_dict(state)
    return ours


def named(name: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}


def test_with_all_tokens_it_is_the_timesformer_of_transformers() -> None:
    model = theirs()
    clips = torch.randn(2, 3, 3, 16, 16, dtype=torch.float64)
    expected = model(clips.transpose(1, 2)).logits
    found = with_weights_of(model)(patchify(clips, SQUARE), everything(SQUARE, 2))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert float(expected.detach().std()) > 0.1


def by_definition(block: DividedBlock, x: Tensor, numbers: list[int]) -> Tensor:
    """One clip, attention over time and then over space: [1 + V, D] to the same, before the MLP."""
    places = [divmod(number, L) for number in numbers]
    q, k, v = projected(block.time_attn, block.time_norm, x[1:])
    out = [x[0]]
    for index, (_, spot) in enumerate(places):
        there = [i for i, place in enumerate(places) if place[1] == spot]
        mixed = attention(q[index], [k[i] for i in there], [v[i] for i in there])
        out.append(x[1 + index] + block.time_proj(block.time_attn.proj(mixed)))
    x = torch.stack(out)
    q, k, v = projected(block.attn, block.norm1, x)
    tokens, classes = [], {}
    for index, (slot, _) in enumerate(places, start=1):
        there = [0] + [1 + i for i, place in enumerate(places) if place[0] == slot]
        keys, values = [k[i] for i in there], [v[i] for i in there]
        tokens.append(attention(q[index], keys, values))
        classes[slot] = attention(q[0], keys, values)
    class_token = torch.stack(list(classes.values())).mean(dim=0)
    return x + block.attn.proj(torch.stack([class_token, *tokens]))


@pytest.mark.parametrize(
    "selection",
    [everything(GRID, 2), chosen(GRID, [0, 1, 6, 7, 13], [2, 5, 18, 20, 22]), chosen(GRID, [4])],
    ids=["all", "slots without tokens", "one"],
)
def test_attention_is_what_its_definition_says(selection: TokenSelection) -> None:
    block = random_module(DividedBlock(WIDTH, HEADS))
    assert isinstance(block, DividedBlock)
    x = torch.randn(len(selection.visible), 1 + selection.visible.shape[1], WIDTH, dtype=torch.float64)
    found = block(x, TokenPlaces.of(selection))
    for clip, numbers in enumerate(selection.visible.tolist()):
        attended = by_definition(block, x[clip], numbers)
        expected = attended + block.mlp(block.norm2(attended))
        torch.testing.assert_close(found[clip], expected, rtol=0, atol=1e-12)


def test_with_all_tokens_the_masked_way_equals_the_dense_one() -> None:
    block = random_module(DividedBlock(WIDTH, HEADS))
    dense = TokenPlaces.of(everything(GRID, 2))
    x = torch.randn(2, 1 + GRID.num_tokens, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(block(x, masked(dense)), block(x, dense), rtol=0, atol=1e-12)
