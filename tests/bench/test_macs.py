import pytest

from everest.bench.macs import count_macs, format_macs
from everest.errors import ConfigError

# 10^9 multiply-adds of one clip, counted on the release's own models: 101 classes, decoder of 4 blocks.
RELEASE = [
    ("small", "pretrain", "rero", 5.737),
    ("small", "finetune", "rero", 29.028),
    ("small", "finetune", "all", 56.878),
    ("base", "pretrain", "rero", 19.784),
    ("base", "finetune", "rero", 97.975),
    ("base", "finetune", "all", 180.345),
    ("large", "pretrain", "rero", 57.920),
    ("large", "finetune", "rero", 329.768),
]
DECODER_WIDTHS = {"small": 192, "base": 384, "large": 512}


def of_last_layer(size: str, num_visible: int = 156, num_target: int = 314) -> float:
    """What the decoder's last layer would cost for tokens that are not predicted: 9 of its 12 products, and asking."""
    width = DECODER_WIDTHS[size]
    return num_visible * (9 * width**2 + 2 * (num_visible + num_target) * width) / 1e9


@pytest.mark.parametrize(("size", "task", "selection", "gmacs"), RELEASE)
def test_ours_multiplies_as_often_as_the_release_but_for_the_last_layer(
    size: str, task: str, selection: str, gmacs: float
) -> None:
    spared = of_last_layer(size) if task == "pretrain" else 0.0
    assert count_macs(size, task, selection)["gmacs"] == pytest.approx(gmacs - spared, abs=2e-3)


@pytest.mark.parametrize(
    ("size", "selection", "gmacs"), [("small", "tube", 11.536), ("small", "rero", 5.737), ("base", "tube", 35.440)]
)
def test_the_plain_peer_multiplies_as_often_as_the_release(size: str, selection: str, gmacs: float) -> None:
    assert count_macs(size, "pretrain", selection, peer="plain")["gmacs"] == pytest.approx(gmacs, abs=2e-3)


def test_tube_embeds_visible_tokens_only() -> None:
    counted = count_macs("base", "pretrain", "tube")
    assert counted["tokens"] == {"total": 1568, "visible": 160, "target": 1408}
    assert counted["gmacs_by_part"]["embedding"] == pytest.approx(160 * 1536 * 768 / 1e9)
    spared = (1568 - 160) * 1536 * 768 / 1e9 + of_last_layer("base", 160, 1408)
    assert counted["gmacs"] == pytest.approx(35.440 - spared, abs=2e-3)


@pytest.mark.parametrize("peer", [None, "plain"])
@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_parts_add_up(task: str, peer: str | None) -> None:
    counted = count_macs("tiny", task, "rero", num_frames=8, height=64, width=64, num_classes=7, peer=peer)
    parts = counted["gmacs_by_part"]
    assert counted["gmacs"] == pytest.approx(sum(parts.values()))
    assert parts["embedding"] == pytest.approx(64 * 1536 * 192 / 1e9)
    outputs = counted["tokens"]["target"] * 96 * 1536 if task == "pretrain" else 192 * 7
    assert parts["head"] == pytest.approx(outputs / 1e9)
    assert (parts["decoder"] > 0) == (task == "pretrain")


def test_training_adds_two_products_to_each_but_those_of_pixels() -> None:
    ours = count_macs("base", "pretrain", "rero")
    rest = ours["gmacs"] - ours["gmacs_by_part"]["embedding"]
    assert ours["gmacs_training"] == pytest.approx(3 * rest + (1568 + 156) * 1536 * 768 / 1e9)
    plain = count_macs("tiny", "pretrain", "rero", num_frames=8, height=64, width=64, peer="plain")
    rest = plain["gmacs"] - plain["gmacs_by_part"]["embedding"]
    assert plain["gmacs_training"] == pytest.approx(3 * rest + 2 * 64 * 1536 * 192 / 1e9)


def test_the_text_says_the_numbers() -> None:
    text = format_macs(count_macs("base", "pretrain", "rero"))
    assert "19.52 GMAC" in text
    assert "156 encoded and 314 predicted of 1568" in text


def test_other_scores_are_counted() -> None:
    """Cosine takes the same products; a followed camera the changes, and embeds what is kept afterwards."""
    plain, cosine, moving = (
        count_macs("base", "pretrain", "rero", **scored)["gmacs"]
        for scored in ({}, {"distance": "cosine"}, {"camera": "moving"})
    )
    assert plain == cosine
    one_token = 2 * 16 * 16 * 3 * 768 / 1e9
    assert moving - plain == pytest.approx((156 - 196) * one_token)
    random = count_macs("base", "pretrain", "rero", scoring="random_projection")["gmacs"]
    assert random == pytest.approx(17.99, abs=0.02)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown size"):
        count_macs("enormous", "pretrain", "rero")
    with pytest.raises(ConfigError, match="unknown selection"):
        count_macs("tiny", "pretrain", "best")
    with pytest.raises(ConfigError, match="unknown distance 'l3'"):
        count_macs("tiny", "pretrain", "rero", distance="l3")
    with pytest.raises(ConfigError, match="unknown camera"):
        count_macs("tiny", "pretrain", "rero", camera="panning")
    with pytest.raises(ConfigError, match="distance=l1 cannot be measured with scoring=projection"):
        count_macs("tiny", "pretrain", "rero", distance="l1", scoring="projection")
    with pytest.raises(ConfigError, match="no peer 'fancy'"):
        count_macs("tiny", "pretrain", "rero", peer="fancy")
