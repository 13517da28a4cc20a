"""The factorised encoder: over space it is the ViViT of transformers, over time it knows slots by their position."""

import torch
from supervised_models import HEADS, WIDTH, everything, random_module
from torch import Tensor, nn
from transformers import VivitConfig, VivitModel

from everest.models.supervised.vivit import TIME_DEPTH, ViViT
from everest.tokens import TokenGrid, patchify

ONE_SLOT = TokenGrid(num_slots=1, num_rows=2, num_columns=2, tubelet_size=2, patch_size=8)
SLOTS = TokenGrid(num_slots=4, num_rows=2, num_columns=3, tubelet_size=2, patch_size=8)


class Caught(nn.Module):
    """Keeps what it is given."""

    given: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.given = x
        return x


def test_over_space_it_is_the_vivit_of_transformers() -> None:
    """Theirs attends over all tokens of a clip at once; over a clip of one slot that is the same."""
    torch.manual_seed(0)
    config = VivitConfig(
        image_size=16,
        num_frames=2,
        tubelet_size=[2, 8, 8],
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    theirs = random_module(VivitModel(config, add_pooling_layer=False)).eval()
    ours = ViViT(ONE_SLOT, width=WIDTH, depth=2, num_heads=HEADS).double()
    weights, state = dict(theirs.named_parameters()), ours.state_dict()
    state["patch_embed.proj.weight"] = weights["embeddings.patch_embeddings.projection.weight"]
    state["patch_embed.proj.bias"] = weights["embeddings.patch_embeddings.projection.bias"]
    state["places.space_class"] = weights["embeddings.cls_token"]
    state["places.space"] = weights["embeddings.position_embeddings"]
    state |= {f"norm.{kind}": weights[f"layernorm.{kind}"] for kind in ("weight", "bias")}
    for number in range(2):
        state |= block_state(weights, number)
    ours.load_state_dict(state)
    ours.time_blocks[0] = Caught()
    clips = torch.randn(2, 3, 2, 16, 16, dtype=torch.float64)
    expected = theirs(clips.transpose(1, 2)).last_hidden_state[:, 0]
    ours(patchify(clips, ONE_SLOT), everything(ONE_SLOT, 2))
    found = ours.time_blocks[0].given[:, 1] - ours.places["time"][:, 1]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def block_state(weights: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """Parameters of one block of theirs under our names."""
    mine = {key: value for key, value in weights.items() if f".{number}." in key}

    def find(name: str) -> Tensor:
        (value,) = [value for key, value in mine.items() if key.endswith(name)]
        return value

    to = f"blocks.{number}."
    state = {
        f"{to}attn.qkv.weight": torch.cat([find(f"{name}.weight") for name in QKV]),
        f"{to}attn.q_bias": find(f"{QKV[0]}.bias"),
        f"{to}attn.v_bias": find(f"{QKV[2]}.bias"),
    }
    for kind in (".weight", ".bias"):
        for ours, theirs in OTHERS.items():
            state[f"{to}{ours}{kind}"] = find(theirs + kind)
    return state


QKV = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
OTHERS = {
    "attn.proj": "attention.o_proj",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def test_slots_meet_in_the_blocks_over_time_only_and_are_told_apart_by_position() -> None:
    model = random_module(ViViT(SLOTS, width=WIDTH, depth=2, num_heads=HEADS)).eval()
    assert isinstance(model, ViViT)
    assert len(model.time_blocks) == TIME_DEPTH
    clips = torch.randn(1, 3, 8, 16, 24, dtype=torch.float64)
    backwards = clips.unflatten(2, (4, 2)).flip(2).flatten(2, 3)

    def describe(clips: Tensor) -> Tensor:
        return model(patchify(clips, SLOTS), everything(SLOTS))

    assert not torch.allclose(describe(clips), describe(backwards))
    with torch.no_grad():
        model.places["time"][:, 1:] = 0.5
    torch.testing.assert_close(describe(clips), describe(backwards), rtol=0, atol=1e-12)
