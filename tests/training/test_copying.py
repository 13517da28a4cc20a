"""A copy to a GPU overlaps with what it computes, and is there when it is needed; elsewhere it is a copy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from everest.training import copying
from everest.training.copying import copy_ahead


class Recorded:
    """Stands for a tensor, a stream, or what is made of them; notes what is asked of it and in which stream."""

    def __init__(self, name: str, notes: list[str], current: list[str]) -> None:
        self.name, self.notes, self.current = name, notes, current
        self.device = torch.device("cpu")

    def to(self, device: torch.device, *, non_blocking: bool) -> "Recorded":
        assert non_blocking
        self.notes.append(f"copy to {device} in {self.current[-1]}")
        return Recorded("copied", self.notes, self.current)

    def wait_stream(self, other: "Recorded") -> None:
        self.notes.append(f"{self.name} waits for {other.name}")

    def record_stream(self, stream: "Recorded") -> None:
        self.notes.append(f"{self.name} is used in {stream.name}")


def test_the_copy_is_beside_what_computes_and_what_follows_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    current = ["computing"]

    @contextmanager
    def inside(stream: Recorded) -> Iterator[None]:
        current.append(stream.name)
        yield
        current.pop()

    def named(name: str) -> Any:
        return lambda *_: Recorded(name, notes, current)

    monkeypatch.setattr(copying, "_stream_of", named("beside"))
    monkeypatch.setattr(torch.cuda, "current_stream", named("computing"))
    monkeypatch.setattr(torch.cuda, "stream", inside)
    copied = copy_ahead(Recorded("clips", notes, current), "cuda:1")  # type: ignore[arg-type]
    assert copied.name == "copied"  # type: ignore[attr-defined]
    assert notes == ["copy to cuda:1 in beside", "computing waits for beside", "copied is used in computing"]
    assert current == ["computing"]


def test_on_a_cpu_nothing_is_copied() -> None:
    clips = torch.arange(6, dtype=torch.uint8)
    assert copy_ahead(clips, "cpu") is clips


@pytest.mark.gpu
def test_clips_arrive_whole_while_a_gpu_computes() -> None:
    busy = torch.randn(4096, 4096, device="cuda")
    clips = torch.randint(0, 256, (16, 3, 16, 112, 112), dtype=torch.uint8).pin_memory()
    for _ in range(20):
        for _ in range(5):
            busy = busy @ busy / busy.norm()
        copied = copy_ahead(clips, "cuda")
        total = copied.long().sum()
        del copied
        assert int(total) == int(clips.long().sum())
