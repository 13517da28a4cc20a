"""What every supervised network keeps to, whatever is inside."""

import pytest
import torch
from supervised_models import ARCHS, TOKEN_ARCHS, WHOLE_ARCHS, built, chosen, everything
from torch import _dynamo
from torch._dynamo.utils import counters

from everest.config import Arch, ClipConfig, ModelConfig, SelectionConfig
from everest.errors import ConfigError, SelectionError
from everest.models import Classifier, Encoder, build_classifier, build_masked_model, grid_of
from everest.models.dropping import SkipPath
from everest.models.supervised import build_supervised_encoder
from everest.models.supervised.places import TokenPlaces
from everest.training.blocks import compile_blocks
from everest.training.optim import parameter_groups

CLIPS = {
    "8x32x48": ClipConfig(num_frames=8, height=32, width=48),
    "4x64x32": ClipConfig(num_frames=4, height=64, width=32),
    "2x16x16": ClipConfig(num_frames=2, height=16, width=16),
}


def patches_of(model: Classifier, batch: int = 2, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, model.grid.num_tokens, model.grid.num_pixels, generator=generator)


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("arch", ARCHS)
def test_it_learns_from_clips_of_any_size(arch: Arch, clip: ClipConfig) -> None:
    model = built(arch, clip=clip).train()
    assert isinstance(model.encoder, Encoder)
    assert model.grid == grid_of(ModelConfig(), clip)
    logits = model(patches_of(model), everything(model.grid, 2))
    assert logits.shape == (2, 3)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("arch", ARCHS)
def test_clips_of_a_batch_do_not_meet(arch: Arch) -> None:
    model = built(arch)
    patches = patches_of(model, 3)
    together = model(patches, everything(model.grid, 3))
    for number in range(3):
        alone = model(patches[number : number + 1], everything(model.grid))
        torch.testing.assert_close(together[number : number + 1], alone, rtol=0, atol=1e-4)
    assert float((together[0] - together[1]).abs().max().detach()) > 1e-3


@pytest.mark.parametrize("arch", TOKEN_ARCHS)
def test_tokens_that_are_left_out_do_not_matter_and_the_others_do(arch: Arch) -> None:
    model = built(arch)
    selection = chosen(model.grid, [0, 5, 6, 9], [3, 4, 5, 23])
    patches = patches_of(model)
    logits = model(patches, selection)
    other = torch.full_like(patches, 100.0)
    index = selection.visible.unsqueeze(-1).expand(-1, -1, patches.shape[-1])
    other.scatter_(1, index, patches.gather(1, index))
    assert torch.equal(model(other, selection), logits)
    moved = chosen(model.grid, [0, 5, 6, 10], [3, 4, 5, 22])
    assert not torch.allclose(model(other, moved), logits)


@pytest.mark.parametrize("method", ["rero", "k_centered", "random", "random_equal", "tube", "running_cell", "all"])
@pytest.mark.parametrize("arch", TOKEN_ARCHS)
def test_every_selection_can_be_used(arch: Arch, method: str) -> None:
    model, config = built(arch).train(), SelectionConfig(method=method, keep_ratio=0.5, encode_ratio=0.1)
    patches = patches_of(model)
    selection = model.encoder.select(patches, config, "finetune")
    logits = model(patches, selection)
    embedded_again = model(patches, chosen(model.grid, *selection.visible.tolist()))
    torch.testing.assert_close(logits, embedded_again, rtol=0, atol=1e-4)
    logits.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    assert selection.visible.shape[1] == (24 if method == "all" else 12)


@pytest.mark.parametrize("arch", WHOLE_ARCHS)
def test_whole_clips_are_asked_for_where_tokens_cannot_be_left_out(arch: Arch) -> None:
    model = built(arch)
    patches = patches_of(model)
    with pytest.raises(SelectionError, match=r"whole clips, given: 2 of 24 tokens; set selection\.method=all"):
        model(patches, chosen(model.grid, [0, 1], [2, 3]))
    config = SelectionConfig(method="rero", keep_ratio=0.5, encode_ratio=0.1)
    with pytest.raises(SelectionError, match=r"given: selection\.method=rero"):
        model.encoder.select(patches, config, "finetune")


@pytest.mark.parametrize("arch", ARCHS)
def test_patches_of_another_grid_are_refused(arch: Arch) -> None:
    model = built(arch)
    with pytest.raises(SelectionError, match="the encoder takes"):
        model(patches_of(model)[:, 1:], everything(model.grid, 2))


@pytest.mark.parametrize("arch", ARCHS)
def test_layer_decay_knows_its_layers(arch: Arch) -> None:
    model = built(arch)
    depth = len(model.encoder.blocks)
    groups = parameter_groups(model, weight_decay=0.05, layer_decay=0.5, depth=depth)
    of = {name: group for group in groups for name in group["param_names"]}
    stem = "stem" if arch.startswith("mvit") else "patch_embed.proj"
    assert of[f"encoder.{stem}.weight"]["lr_scale"] == 0.5 ** (depth + 1)
    assert of[f"encoder.{stem}.weight"]["weight_decay"] == 0.05
    assert of["head.weight"]["lr_scale"] == 1
    for name, group in of.items():
        if ".places." in name:
            assert (group["lr_scale"], group["weight_decay"]) == (0.5 ** (depth + 1), 0), name
        if name.startswith(f"encoder.blocks.{depth - 1}."):
            assert group["lr_scale"] == 0.5, name


@pytest.mark.parametrize("arch", ["timesformer", "xvit", "motionformer", "mvit_s", "mvit_b"])
def test_drop_path_grows_over_the_blocks(arch: Arch) -> None:
    model = build_classifier(ModelConfig(arch=arch, size="tiny", drop_path=0.2), CLIPS["2x16x16"], 3)
    rates = [block.skip2.rate for block in model.encoder.blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.2 * i / (len(rates) - 1) for i in range(len(rates))])


def test_a_skipped_branch_is_made_up_for_by_the_others() -> None:
    skip, x = SkipPath(0.25), torch.ones(4000, 2, 3)
    torch.manual_seed(0)
    out = skip.train()(x)
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert torch.equal(out.amin(dim=(1, 2)), out.amax(dim=(1, 2)))
    assert float(out.mean()) == pytest.approx(1, abs=0.03)
    assert torch.equal(skip.eval()(x), x)


@pytest.mark.parametrize("arch", TOKEN_ARCHS)
def test_a_block_compiles_into_one_graph(arch: Arch) -> None:
    model = built(arch)
    where = TokenPlaces.of(chosen(model.grid, [0, 5, 6, 9], [3, 4, 5, 23]))
    num_classes = model.grid.num_slots if arch == "xvit" else 1
    x, block = torch.randn(2, 4 + num_classes, 192), model.encoder.blocks[1]
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, where), block(x, where), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
def test_training_compiles_every_block(arch: Arch, monkeypatch: pytest.MonkeyPatch) -> None:
    model, compiled = built(arch), []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: compiled.append(self))
    compile_blocks(model)
    assert set(model.encoder.blocks) <= set(compiled)


@pytest.mark.parametrize("arch", ARCHS)
def test_blocks_are_compiled_whole_in_training_and_evaluation(arch: Arch) -> None:
    """No graph break, and none falls back to computing as it is, however many kinds of blocks there are."""
    plain, compiled = built(arch), built(arch)
    torch.compiler.reset()
    counters.clear()
    compile_blocks(compiled, backend="aot_eager")
    for is_training, batch in ((True, 2), (False, 3)):
        found = []
        for model in (plain, compiled):
            model.train(is_training)
            with torch.set_grad_enabled(is_training), _dynamo.config.patch(fail_on_recompile_limit_hit=True):
                found.append(model(patches_of(model, batch), everything(model.grid, batch)))
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
        if is_training:
            found[1].sum().backward()
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] > 1


def test_the_size_of_an_mvit_is_in_its_name() -> None:
    with torch.device("meta"):
        counts = [
            sum(
                p.numel()
                for p in build_classifier(ModelConfig(arch="mvit_b", size=size), CLIPS["8x32x48"], 3).parameters()
            )
            for size in ("tiny", "small", "huge")
        ]
    assert counts[0] < counts[1] == counts[2]


def test_pre_training_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.arch=xvit is trained with labels only"):
        build_masked_model(ModelConfig(arch="xvit"), CLIPS["8x32x48"], objective=None)  # type: ignore[arg-type]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    grid = grid_of(ModelConfig(), CLIPS["8x32x48"])
    with pytest.raises(ConfigError, match="did you mean 'vivit'"):
        build_supervised_encoder("vivi", "tiny", grid, width=24, depth=1, num_heads=2, drop_path=0)  # type: ignore[arg-type]
