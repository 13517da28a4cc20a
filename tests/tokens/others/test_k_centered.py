"""Laws of K-centred sampling, against a search that is written out.

Shapes: N tubelets, P pixels, K centres.
"""

import pytest
import torch
from torch import Tensor

from everest.errors import SelectionError
from everest.tokens.others.k_centered import k_centers


def random_patches(num: int = 30, pixels: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(num, pixels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(patches: Tensor, num: int) -> list[int]:
    """Farthest-point search with every distance computed by itself."""
    mean = patches.mean(dim=0)
    chosen = [max(range(len(patches)), key=lambda i: float((patches[i] - mean).norm()))]
    while len(chosen) < num:
        others = [i for i in range(len(patches)) if i not in chosen]
        nearest = {i: min(float((patches[i] - patches[c]).norm()) for c in chosen) for i in others}
        chosen.append(max(others, key=lambda i: nearest[i]))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_is_the_farthest_point_search(seed: int) -> None:
    patches = random_patches(seed=seed)
    assert k_centers(patches, 12).tolist() == by_hand(patches, 12)


def test_more_centres_go_on_where_fewer_ended() -> None:
    patches = random_patches()
    assert k_centers(patches, 30)[:7].tolist() == k_centers(patches, 7).tolist()


def test_all_tubelets_are_centres_once() -> None:
    assert sorted(k_centers(random_patches(), 30).tolist()) == list(range(30))


def test_every_cluster_gets_a_centre() -> None:
    places = torch.tensor([[0.0, 0], [100, 0], [0, 100], [100, 100]])
    patches = places.repeat_interleave(10, dim=0) + torch.rand(40, 2, generator=torch.Generator().manual_seed(0))
    assert {index // 10 for index in k_centers(patches, 4).tolist()} == {0, 1, 2, 3}


def test_no_tubelet_is_farther_than_from_the_last_centre_chosen() -> None:
    patches = random_patches()
    centers = k_centers(patches, 10)
    distances = torch.cdist(patches, patches)
    radius = distances[:, centers].min(dim=1).values.max()
    last = distances[centers[-1], centers[:-1]].min()
    assert radius <= last + 1e-9  # greedy centres are at least as far from each other as any tubelet is from them


def test_where_all_are_the_same_the_first_are_taken() -> None:
    assert k_centers(torch.ones(9, 4), 3).tolist() == [0, 1, 2]


def test_is_the_same_in_single_precision() -> None:
    patches = random_patches()
    assert k_centers(patches.float(), 20).tolist() == k_centers(patches, 20).tolist()


@pytest.mark.parametrize("num", [0, 31])
def test_too_many_and_none_are_refused(num: int) -> None:
    with pytest.raises(SelectionError, match=f"cannot choose {num} centres among 30"):
        k_centers(random_patches(), num)


def test_autocast_chooses_no_others() -> None:
    patches = random_patches(200, 96).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal((patches @ patches.mT).float(), patches.double() @ patches.double().mT)  # it is on
        chosen = k_centers(patches, 60)
    assert chosen.tolist() == k_centers(patches, 60).tolist()
