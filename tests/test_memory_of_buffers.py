import subprocess
import sys

import pytest

from everest import cli, memory

SCRIPT = """
import resource, sys, torch
from everest.memory import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(20):  # the heap takes a while to find its size
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_memory_that_is_kept_is_not_faulted_in_again() -> None:
    assert faults("plain") > 10 * faults("keep")


def test_who_chose_already_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    assert not memory.keep_freed_memory()
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not memory.keep_freed_memory()


def test_or_everybody_alike_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[bool] = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: done.append(True))
    monkeypatch.setattr(cli, "_run", lambda _: 0)
    for more, kept in (([], 0), (["--equal-terms"], 1)):
        monkeypatch.setattr(sys, "argv", ["everest", "bench", "step", "--peer", "plain", *more])
        assert cli.program() == 0
        assert len(done) == kept


@pytest.mark.parametrize(("peer", "kept"), [([], [True]), (["--peer", "plain"], [])])
def test_what_others_are_is_measured_as_they_come(
    peer: list[str], kept: list[bool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[bool] = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: done.append(True))
    monkeypatch.setattr(sys, "argv", ["everest", "bench", "macs", "--size", "tiny", *peer])
    assert cli.program() == 0
    assert done == kept
    assert "GMAC" in capsys.readouterr().out
