"""Drop path and dropout that belong to clips."""

import pytest
import torch

from everest.config import ClipConfig, ModelConfig, SelectionConfig
from everest.draws import ClipDraws, seeds_of_clips
from everest.models import build_classifier, grid_of
from everest.models.dropping import FeatureDropout, SkipPath, drawing, find_dropping
from everest.models.tubelets import cut
from everest.tokens import select_tokens

CLIP = ClipConfig(num_frames=4, height=32, width=32)
MODEL = ModelConfig(size="tiny", drop_path=0.5, head_dropout=0.5)


def test_a_clip_is_treated_the_same_in_any_batch() -> None:
    torch.manual_seed(0)
    model = build_classifier(MODEL, CLIP, 3).train()
    torch.nn.init.normal_(model.head.weight)
    clips = torch.randint(256, (6, 3, 4, 32, 32), dtype=torch.uint8)
    info = SelectionConfig(method="all", keep_ratio=1.0, encode_ratio=1.0)
    seeds, dropping = seeds_of_clips(0, 0, range(6)), find_dropping(model)

    def run(part: slice) -> torch.Tensor:
        grid = grid_of(MODEL, CLIP)
        patches = cut(clips[part], grid, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
        with drawing(dropping, ClipDraws(seeds[part])):
            return model(patches, select_tokens(info, "finetune", grid, len(patches)))

    whole = run(slice(0, 6))
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        torch.testing.assert_close(run(part), whole[part], rtol=1e-5, atol=1e-6)
    model.eval()
    assert not torch.allclose(run(slice(0, 6)), whole)


def test_what_was_drawn_does_not_outlive_its_pass() -> None:
    skip = SkipPath(0.5).train()
    with pytest.raises(RuntimeError, match="size of tensor"), drawing([skip], ClipDraws(torch.arange(4))):
        skip(torch.ones(7, 2))  # factors of four clips for seven
    assert skip.factors is None
    assert len(skip(torch.ones(7, 2))) == 7  # any number of clips again


def test_modules_draw_apart_from_each_other() -> None:
    modules = [SkipPath(0.5).train() for _ in range(2)]
    with drawing(modules, ClipDraws(seeds_of_clips(0, 0, range(64)))):
        first, second = (module(torch.ones(64, 1)) for module in modules)
    assert not torch.equal(first, second)
    assert first.unique().tolist() == [0.0, 2.0]


def test_dropout_keeps_the_mean() -> None:
    dropout = FeatureDropout(0.3, 50).train()
    features = torch.ones(400, 50)
    with drawing([dropout], ClipDraws(seeds_of_clips(0, 0, range(400)))):
        found = dropout(features)
    assert found.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert float(found.mean()) == pytest.approx(1.0, abs=4 * (0.3 / 0.7 / found.numel()) ** 0.5)
    assert torch.equal(dropout.eval()(features), features)


def test_what_never_drops_is_not_asked() -> None:
    model = build_classifier(ModelConfig(size="tiny"), CLIP, 3)
    assert find_dropping(model) == []


def test_blocks_of_different_rates_share_a_compiled_graph() -> None:
    """Compiled code that had read the rate would be compiled for every block, and given up after a few."""
    torch._dynamo.reset()
    graphs: list[torch.fx.GraphModule] = []

    def collect(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    model = build_classifier(MODEL, CLIP, 3).train()
    blocks = list(model.encoder.blocks)
    for block in blocks:
        block.compile(backend=collect, dynamic=False)
    seeds, x = seeds_of_clips(0, 0, range(4)), torch.randn(4, 5, 192)
    for step in range(2):
        with drawing(find_dropping(model), ClipDraws(seeds, step)):
            for block in blocks:
                block(x)
    assert len(blocks) == 6
    assert len(graphs) == 2  # the first one, which never drops, and all others


def test_slots_of_a_clip_are_treated_alike() -> None:
    skip = SkipPath(0.5).train()
    with drawing([skip], ClipDraws(seeds_of_clips(0, 0, range(32)))):
        clips, slots = skip(torch.ones(32, 3)), skip(torch.ones(64, 3))
    assert torch.equal(slots, clips.repeat_interleave(2, dim=0))
