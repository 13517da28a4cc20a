"""Several processes that are killed: such as divide the weights, and machines of their own. ``make test-kills``."""

import os
import signal
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from launching import launched
from small_runs import NUM_STEPS, SAVE_EVERY, Small, first_step_of, numbers
from starts import Start, Starts

from everest.training.state import latest_state

STEP = "everest.training.loop:set_learning_rate"  # called once in every step
SMALL = {
    "optim.epochs": 8,
    "optim.global_batch_size": 4,
    "data.batch_size": 1,
    "data.num_workers": 0,
    "run.tensorboard": "false",
}


def wait_for_all(ranks: list[Start]) -> list[int]:
    return [each.wait() for each in ranks]


def test_divided_weights_survive_deaths_damage_and_other_numbers_of_processes(
    starts: Starts, data: Path, tmp_path: Path
) -> None:
    """Two processes, then four, then two again; the losses are those of one that was left alone."""
    run = Small("pretrain", data, tmp_path / "run", SMALL | {"run.shard_weights": "true"})
    whole = Small("pretrain", data, tmp_path / "whole", SMALL)
    assert starts.run(*whole.command)[0] == 0
    ranks = starts.begin_all(*run.command, stop_in=f"{STEP}:{2 * SAVE_EVERY + 1}", stopping=1)
    assert wait_for_all(ranks) == [2, -signal.SIGKILL], ranks[0].printed
    assert "2 processes that divide the weights" in ranks[0].printed
    newest = latest_state(run.out / "checkpoints")
    assert newest is not None
    assert newest.name == f"step-{2 * SAVE_EVERY:08d}.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(bytes(content))
    ranks = starts.begin_all(*run.command, num_processes=4, stop_in=f"{STEP}:{SAVE_EVERY + 2}")
    assert wait_for_all(ranks)[0] == -signal.SIGKILL, ranks[0].printed
    assert f"{newest.name} is damaged" in ranks[0].printed
    assert first_step_of(ranks[0].printed) == SAVE_EVERY
    ranks = starts.begin_all(*run.command)
    assert wait_for_all(ranks) == [0, 0], ranks[0].printed
    assert first_step_of(ranks[0].printed) == 2 * SAVE_EVERY
    assert_same_losses(run, whole)


@pytest.mark.parametrize("divides", ["false", "true"])
def test_two_machines_go_on_when_a_process_of_one_dies(divides: str, data: Path, tmp_path: Path) -> None:
    """Each has an agent of torchrun, which starts its process again and meets the other's."""
    settings = SMALL | {"data.batch_size": 2, "run.shard_weights": divides}
    run, whole = (Small("pretrain", data, tmp_path / name, settings) for name in ("run", "whole"))
    with launched(whole) as launch:
        assert launch.wait() == 0, launch.printed
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        place = f"--rdzv-endpoint=localhost:{probe.getsockname()[1]}"
    options = ["--nnodes=2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d", "--rdzv-id=7", place]
    with ExitStack() as stack:
        agents = [stack.enter_context(launched(run, *options)) for _ in range(2)]
        agents[0].wait_for_step(SAVE_EVERY + 1)
        os.kill(next(found for each in agents if (found := each.ranks().get(1))), signal.SIGKILL)
        assert [each.wait() for each in agents] == [0, 0], [each.printed for each in agents]
    printed = "".join(each.printed for each in agents)
    assert "the last start ended without a word: rank 1 on " in printed
    assert f"going on at step {SAVE_EVERY}" in printed
    assert_same_losses(run, whole)


def assert_same_losses(run: Small, whole: Small) -> None:
    lines = [numbers(each) for each in (run, whole)]
    assert [line["step"] for line in lines[0]] == list(range(NUM_STEPS))
    for here, there in zip(*lines, strict=True):
        assert here["loss"] == pytest.approx(there["loss"], rel=1e-5)
