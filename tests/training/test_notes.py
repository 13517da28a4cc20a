"""The log of a run has what was said, warnings and its end among it."""

import re
import warnings
from pathlib import Path

import pytest

from everest.cli import _format_warning
from everest.config import PretrainConfig
from everest.datasets import load_data
from everest.errors import RunError
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import run_pretraining
from everest.training.notes import append_line, warnings_kept

SMALL = (
    *("clip.height=32", "clip.width=32", "optim.epochs=1", "optim.warmup_epochs=0", "optim.global_batch_size=26"),
    *("data.batch_size=26", "data.num_workers=0", "run.tensorboard=false", "run.device=cpu"),
)


def config() -> PretrainConfig:
    recipe = get_recipe("demo").pretrain
    assert recipe is not None
    return override(recipe, SMALL)


def test_a_run_that_is_stopped_says_why_in_its_log(tmp_path: Path) -> None:
    said: list[str] = []
    data = load_data("bundled").split("train")
    run = run_pretraining(config(), data, tmp_path / "run", say=said.append)
    assert run.folder.log.read_text().splitlines() == said
    (state,) = run.folder.checkpoints.glob("*.pt")
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(RunError) as caught:
        run_pretraining(config(), data, tmp_path / "run", say=said.append, resume="auto")
    warning, end = run.folder.log.read_text().splitlines()[-2:]
    assert re.match(rf"warning: .*{state.name} is damaged .* trying an earlier one", warning)
    assert end == f"stopped: {caught.value}"


def test_an_interruption_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("everest.training.loop.Trainer.run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_pretraining(config(), load_data("bundled").split("train"), tmp_path / "run", say=lambda _: None)
    assert (tmp_path / "run" / "log.txt").read_text().splitlines()[-1] == "stopped: KeyboardInterrupt"


def test_warnings_are_kept_and_still_shown() -> None:
    kept: list[str] = []
    with pytest.warns(UserWarning, match="two") as caught, warnings_kept(kept.append):
        warnings.warn("in\ntwo lines", stacklevel=1)
    warnings.simplefilter("ignore")
    warnings.warn("outside", stacklevel=1)
    assert kept == ["warning: in two lines"]
    assert len(caught) == 1


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    append_line(tmp_path, "a folder")
    append_line(tmp_path / "none" / "log.txt", "no folder")
    append_line(tmp_path / "log.txt", "odd \udcff name")
    assert (tmp_path / "log.txt").read_text() == "odd \\udcff name\n"


def test_warnings_of_the_program_take_one_line() -> None:
    import everest

    ours = str(Path(everest.__file__).parent / "training" / "x.py")
    assert _format_warning("a\nb", UserWarning, ours, 3, None) == "warning: a b\n"
    theirs = _format_warning("a\nb", FutureWarning, "/site/torch/x.py", 3, None)
    assert theirs == "warning: a b (FutureWarning of /site/torch/x.py)\n"
