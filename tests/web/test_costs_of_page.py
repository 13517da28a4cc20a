"""What the page says of costs is what is counted elsewhere."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from everest.bench.macs import count_task
from everest.config import ModelConfig, Task
from everest.datasets import ClipRecord, load_data
from everest.inference import Looker
from everest.web.costs import count_cost
from everest.web.looking import Choice, VideoLook, chosen_info
from everest.web.models import Lookers, load_lookers

LOOK = VideoLook(ClipRecord(load_data("bundled").records[0].path))


def cost_of(looker: Looker, choice: Choice) -> tuple[float, float]:
    cost = count_cost(LOOK.choose(looker, choice).seen(), is_random=False)
    assert cost is not None
    return cost.whole.gmacs, cost.whole.full_gmacs


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_costs_are_those_of_the_benchmark(lookers: Lookers, task: Task) -> None:
    looker, choice = lookers.by_task[task], Choice(task=task, keep_ratio=0.4)
    gmacs, full = cost_of(looker, choice)
    assert gmacs == count_task(chosen_info(looker.info, choice))["gmacs"]
    whole = choice.model_copy(update={"method": "tube" if task == "pretrain" else "all", "keep_ratio": 1.0})
    assert full == count_task(chosen_info(looker.info, whole))["gmacs"]
    assert cost_of(looker, whole) == (full, full)
    assert gmacs < cost_of(looker, choice.model_copy(update={"keep_ratio": 0.8}))[0]


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_a_selection_that_follows_the_clip_costs_what_this_clip_takes(lookers: Lookers, task: Task) -> None:
    looker = lookers.by_task[task]
    choice = Choice(task=task, method="adaptive", keep_ratio=1.0)
    found = LOOK.choose(looker, choice).seen()
    num_kept, num_encoded = len(found.kept("adaptive")), len(found.selections["adaptive"].visible[0])
    assert num_kept < found.grid.num_tokens
    info = chosen_info(looker.info, Choice(task=task, keep_ratio=1.0))
    ratios = {"keep_ratio": num_kept / 48, "encode_ratio": num_encoded / 48}
    ratios = {name: ratio + 1e-4 for name, ratio in ratios.items()}
    same = info.model_copy(update={"selection": info.selection.model_copy(update=ratios)})
    counted = count_task(same)
    assert counted["tokens"]["visible"] == num_encoded
    assert counted["tokens"]["target"] == num_kept - num_encoded
    assert cost_of(looker, choice)[0] == counted["gmacs"]
    rlt = LOOK.choose(looker, Choice(task=task, method="rlt", keep_ratio=0.5)).seen()
    assert count_cost(rlt, is_random=False) is not None


def test_choosing_frames_is_counted(lookers: Lookers) -> None:
    looker = lookers.by_task["finetune"]
    without, chosen = Choice(keep_ratio=0.4), Choice(keep_ratio=0.4, alpha=2.0)
    found = LOOK.choose(looker, chosen).seen()
    cost = count_cost(found, is_random=False)
    assert cost is not None
    assert cost.whole.gmacs - cost_of(looker, without)[0] == pytest.approx(cost.frames_gmacs)
    assert found.candidates is not None
    info = chosen_info(looker.info, chosen)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        looker.encoder.select_frames(
            found.candidates[None], info.frame_selection, info.selection, mean=info.mean, std=info.std
        )
    assert cost.frames_gmacs == pytest.approx(counter.get_total_flops() / 2e9)


def test_without_a_checkpoint_a_larger_model_stands_for_yours() -> None:
    lookers = load_lookers((), "cpu")
    found = LOOK.choose(lookers.by_task["finetune"], Choice(keep_ratio=0.6)).seen()
    cost = count_cost(found, is_random=True)
    assert cost is not None
    assert cost.whole.model == "a ViT-B"
    assert found.info.model == ModelConfig(size="tiny")
    assert cost.whole.gmacs == pytest.approx(98.0, abs=0.05)  # as in the README
    assert cost.whole.full_gmacs == pytest.approx(180.3, abs=0.05)
