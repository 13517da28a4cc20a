"""On a Ray cluster tasks have the same outcomes as on this machine, whatever happens to the machines."""

import importlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_tasks import WriteTask, act, in_steps, slowly, write

from everest.datasets import ray_worker
from everest.datasets.engine import LocalEngine, open_engine
from everest.datasets.pool import Lost
from everest.datasets.ray_engine import BLOCK_SIZE, RayEngine
from everest.datasets.ray_start import MAX_SILENT_SECONDS
from everest.errors import ConfigError, DataError
from ray_clusters import RayCluster


@pytest.fixture(scope="module")
def engine(ray_machines: RayCluster) -> Iterator[RayEngine]:
    with RayEngine(address=ray_machines.address) as engine:
        yield engine


def test_a_cluster_that_is_not_there_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """The first of this file: a cluster that was reached would be taken instead."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match="is the cluster running"), RayEngine(address=address) as engine:
            list(engine.run(act, [0], time_limit_seconds=20))
    with pytest.raises(ConfigError, match="cannot be reached at nonsense"), RayEngine(address="nonsense") as engine:
        list(engine.run(act, [0], time_limit_seconds=20))


def test_results_come_in_the_order_of_the_items(engine: RayEngine) -> None:
    done: dict[int, object] = {}
    found = list(engine.run(act, range(50), time_limit_seconds=20, on_done=done.__setitem__))
    assert found == [(i, i) for i in range(50)]
    assert sorted(done.items()) == found
    assert list(engine.run(act, [], time_limit_seconds=20)) == []


def test_a_task_that_fails_is_lost_as_it_is_locally(engine: RayEngine) -> None:
    items = [0, "hang", 2, "crash", "video", "memory", 6, 7, 8, 9]
    local = list(LocalEngine(2).run(act, items, time_limit_seconds=3.0))  # time for a crash on a busy machine
    remote = list(engine.run(act, items, time_limit_seconds=3.0))
    assert [outcome for _, outcome in remote if not isinstance(outcome, Lost)] == [0, 2, 6, 7, 8, 9]
    for (index, here), (_, there) in zip(local, remote, strict=True):
        assert repr(there) == repr(here), index


def test_a_worker_that_is_killed_again_and_again_costs_one_item(engine: RayEngine) -> None:
    items = [0, 1, "worker", 3, 4]
    found = dict(engine.run(act, items, time_limit_seconds=20))
    assert [found[i] for i in (0, 1, 3, 4)] == [0, 1, 3, 4]
    assert isinstance(found[2], Lost)
    assert found[2].has_died
    assert "3 workers were lost" in found[2].reason


def test_a_machine_that_is_killed_half_way_costs_nothing(engine: RayEngine, ray_cluster: RayCluster) -> None:
    num_items = 20 * BLOCK_SIZE
    num_done = 0

    def count(index: int, outcome: object) -> None:
        nonlocal num_done
        num_done += 1
        if num_done == num_items // 2:
            ray_cluster.kill_one()

    found = list(engine.run(slowly, range(num_items), time_limit_seconds=20, on_done=count))
    assert found == [(i, 2 * i) for i in range(num_items)]
    assert num_done == num_items


def test_the_time_limit_is_for_each_step(engine: RayEngine) -> None:
    assert list(engine.run(in_steps, [1.5], time_limit_seconds=0.7)) == [(0, "done")]


def test_a_mistake_in_a_task_comes_with_its_traceback(engine: RayEngine) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in act.*ZeroDivisionError: in the task"):
        list(engine.run(act, [0, "mistake"], time_limit_seconds=20))


def test_files_come_to_where_they_belong(engine: RayEngine, tmp_path: Path) -> None:
    texts = ["one", "", "crash", "four"]
    tasks = [WriteTask(text, tmp_path / f"{i}.txt") for i, text in enumerate(texts)]
    seen: dict[int, bool] = {}
    outcomes = list(
        engine.run(
            write,
            tasks,
            time_limit_seconds=20,
            on_done=lambda index, _: seen.__setitem__(index, tasks[index].target.exists()),
            has_files=True,
        )
    )
    assert isinstance(outcomes[2][1], Lost)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0.txt": "one", "3.txt": "four"}
    assert seen == {0: True, 1: False, 2: False, 3: True}


def test_what_the_machines_of_the_cluster_lack_is_said(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def task(item): return item")
    monkeypatch.syspath_prepend(tmp_path)
    task = importlib.import_module("only_here").task
    with pytest.raises(ConfigError, match=r"No module named 'only_here'.*install"):
        list(engine.run(task, [0], time_limit_seconds=20))


def test_another_version_on_a_machine_of_the_cluster_is_said(
    engine: RayEngine, ray_cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_worker, "describe_software", lambda: "everest 0.0.1, another decoder")
    with pytest.raises(ConfigError, match=r"this one everest 0\.0\.1, another decoder: install the same"):
        list(engine.run(act, [0], time_limit_seconds=20))


def test_when_all_machines_are_gone_it_ends(engine: RayEngine, ray_cluster: RayCluster) -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    assert context.execution_no_progress_timeout_s == MAX_SILENT_SECONDS
    context.execution_no_progress_timeout_s = 4.0
    num_done = 0

    def kill_all(index: int, outcome: object) -> None:
        nonlocal num_done
        num_done += 1
        if num_done == BLOCK_SIZE:
            ray_cluster.kill_one()
            ray_cluster.kill_one()

    try:
        with pytest.raises(DataError, match=r"Ray cannot go on .* run the command again"):
            list(engine.run(slowly, range(20 * BLOCK_SIZE), time_limit_seconds=20, on_done=kill_all))
    finally:
        context.execution_no_progress_timeout_s = MAX_SILENT_SECONDS
    assert num_done < 20 * BLOCK_SIZE


def test_what_cannot_work_is_said() -> None:
    with pytest.raises(ConfigError, match="0 workers are for the local engine"):
        RayEngine(0)
    with pytest.raises(ConfigError, match="add --engine ray"), open_engine("local", address="somewhere:1"):
        pass
    with pytest.raises(ConfigError, match="on a machine of the cluster"):
        RayEngine(address="ray://somewhere:1")
