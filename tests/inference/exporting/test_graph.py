"""The graph computes what the model computes, whatever it selects by; what it cannot compute is refused."""

import pytest
import torch
from small_graphs import classifier_with, encoder_with, mostly_still, moving, selection

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.errors import ConfigError
from everest.inference.exporting.graph import ClipGraph
from everest.inference.exporting.reference import Reference
from everest.models import build_classifier

SELECTIONS = [
    selection(),
    selection(ratio=0.1),
    selection(scoring="exact"),
    selection(scoring="projection"),
    selection(scoring="pixels"),
    selection(scoring="random_projection"),
    *(selection(method) for method in ("all", "random", "random_equal", "tube", "running_cell")),
]


@pytest.mark.parametrize("config", SELECTIONS, ids=lambda config: f"{config.method}-{config.scoring}")
@pytest.mark.parametrize("frames", [moving(), mostly_still(), mostly_still()[:, :1].expand(-1, 8, -1, -1, -1)])
def test_the_graph_of_a_classifier_is_the_classifier(config: SelectionConfig, frames: torch.Tensor) -> None:
    model, info = classifier_with(config)
    graph = ClipGraph(model, info)
    with torch.no_grad():
        given = dict(zip(graph.outputs, graph(frames), strict=True))
    wanted = Reference(model, info)(frames)
    assert torch.equal(given["visible"], wanted["visible"])
    for name in ("logits", "probabilities", "features"):
        torch.testing.assert_close(given[name], wanted[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [selection("all"), selection()])
def test_the_graph_of_an_encoder_gives_its_features(config: SelectionConfig) -> None:
    model, info = encoder_with(config)
    graph = ClipGraph(model, info)
    with torch.no_grad():
        given = dict(zip(graph.outputs, graph(moving()), strict=True))
    wanted = Reference(model, info)(moving())
    assert set(given) == {"features", "tokens", "visible"}
    assert torch.equal(given["visible"], wanted["visible"])
    for name in ("features", "tokens"):
        torch.testing.assert_close(given[name], wanted[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scoring", ["auto", "projection", "pixels", "random_projection"])
def test_frames_are_chosen_inside(scoring: str) -> None:
    model, info = classifier_with(selection(scoring=scoring), alpha=1.5)
    graph = ClipGraph(model, info)
    assert graph.input_shape == (12, 16, 16, 3)
    frames = moving(num_frames=12)
    frames[:, 2:6] = frames[:, 1:2]  # two pairs in which nothing changes
    with torch.no_grad():
        given = dict(zip(graph.outputs, graph(frames), strict=True))
    wanted = Reference(model, info)(frames)
    assert given["chosen_frames"].shape == (3, 8)
    assert torch.equal(given["chosen_frames"], wanted["chosen_frames"])
    assert not (given["chosen_frames"] == 4).any()
    torch.testing.assert_close(given["logits"], wanted["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_frames_that_chance_chooses_are_those_of_evaluation(seed: int) -> None:
    model, info = classifier_with(selection(seed=seed), alpha=1.5, by="chance")
    given = dict(zip(ClipGraph(model, info).outputs, ClipGraph(model, info)(moving(num_frames=12)), strict=True))
    wanted = Reference(model, info)(moving(num_frames=12))
    assert torch.equal(given["chosen_frames"], wanted["chosen_frames"])
    torch.testing.assert_close(given["logits"], wanted["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (SelectionConfig(method="adaptive", keep_ratio=0.6, encode_ratio=0.6), "another number of tokens"),
        (SelectionConfig(method="rlt", keep_ratio=0.6, encode_ratio=0.6), "another number of tokens"),
        (selection("k_centered"), "one after the other"),
        (selection(scoring="bfloat16"), "auto, exact, projection, pixels"),
        (selection(distance="l1"), "distance=l1 cannot be exported; there is l2"),
        (selection(camera="moving"), "camera=moving cannot be exported; there is still"),
    ],
)
def test_what_a_graph_cannot_compute_is_refused(config: SelectionConfig, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ClipGraph(*classifier_with(config))


def test_what_only_chooses_frames_is_looked_at_too() -> None:
    config = selection("random_equal", camera="moving")
    ClipGraph(*classifier_with(config))
    with pytest.raises(ConfigError, match="camera=moving cannot be exported"):
        ClipGraph(*classifier_with(config, alpha=1.5))


def test_other_networks_are_refused() -> None:
    model, clip = ModelConfig(arch="timesformer", size="tiny"), ClipConfig(num_frames=4, height=32, width=32)
    info = CheckpointInfo(task="finetune", model=model, clip=clip, selection=selection("all"), class_names=("a", "b"))
    with pytest.raises(ConfigError, match="timesformer cannot be exported"):
        ClipGraph(build_classifier(model, clip, 2), info)
