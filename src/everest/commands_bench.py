"""What ``everest bench`` does with its options; see :mod:`everest.commands`."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everest.commands import EXIT_FAILURES, EXIT_OK, print_result
from everest.errors import ConfigError

_SCORED = ("scoring", "distance", "camera")  # how tokens are scored
_WAYS = ("compile", "activation_checkpointing", "cuda_graphs")  # to compute a step


def bench_step(options: Namespace) -> int:
    """Time a training step."""
    from everest.bench.step import bench_step as measure
    from everest.bench.step import format_step
    from everest.datasets import load_data

    if options.profile:
        return _bench_profile(options)
    if options.workers is not None:
        raise ConfigError(
            f"--workers {options.workers} goes with --profile, which says how long a step waits for clips"
        )
    wanted = ("size", "task", "selection", "batch", "device", "precision", "steps", "peer", *_SCORED)
    manifest = None if options.data is None else load_data(options.data)
    values = measure(**_asked(options, *wanted, *_WAYS), **_network(options), manifest=manifest)
    print_result(options, values, format_step(values))
    return EXIT_OK


def _bench_profile(options: Namespace) -> int:
    """Say where the time of a training step goes."""
    from everest.bench.described import describe_task
    from everest.bench.footage import read_clips
    from everest.bench.profile import format_profile, profile_step, profile_with_data
    from everest.bench.tasks import build_step
    from everest.datasets import load_data

    if options.peer is not None or any(getattr(options, way) for way in _WAYS):
        raise ConfigError(
            "a profile is of our own model as it is: give no --peer, --compile, --activation-checkpointing or "
            "--cuda-graphs"
        )
    if options.arch != "vit":
        raise ConfigError(f"a profile is of our own model: give no --arch, or leave --profile out ({options.arch})")
    info = describe_task(**_asked(options, "size", "task", "selection", *_SCORED), **_network(options))
    place = {"device": options.device, "precision": options.precision}
    manifest = None if options.data is None else load_data(options.data)
    if options.workers is None:
        clips = None if manifest is None else read_clips(manifest, info.clip, options.batch, seed=0)
        values = profile_step(build_step(info, options.batch, **place, clips=clips), steps=options.steps)
    elif manifest is None:
        raise ConfigError(f"--workers {options.workers}: worker processes read clips; say of what, by --data")
    else:
        values = profile_with_data(
            manifest.train, info, options.batch, **place, num_workers=options.workers, steps=options.steps
        )
    print_result(options, values, format_profile(values))
    return EXIT_OK


def bench_peers(options: Namespace) -> int:
    """Time a training step beside others."""
    from everest.bench.peers import bench_peers as measure
    from everest.bench.peers import format_peers

    with _measuring() as on_progress:
        values = measure(
            **_asked(options, "size", "task", "batch", "device", "precision", "steps", "rounds", "data", "equal_terms"),
            others=options.peer,
            on_progress=on_progress,
        )
    print_result(options, values, format_peers(values))
    asked_for = [row for row in values["rows"] if row["name"] in options.peer]
    return EXIT_FAILURES if any("problem" in row for row in asked_for) else EXIT_OK


def bench_levers(options: Namespace) -> int:
    """Time what makes a step fast, one by one."""
    from everest.bench.levers import bench_levers as measure
    from everest.bench.levers import format_levers

    with _measuring() as on_progress:
        values = measure(
            **_asked(options, "size", "task", "batch", "device", "precision", "rounds"), on_progress=on_progress
        )
    print_result(options, values, format_levers(values))
    return EXIT_OK if all(row["same"] for row in values["levers"]) else EXIT_FAILURES


def bench_methods(options: Namespace) -> int:
    """Time a pre-training step of every method."""
    from everest.bench.methods import bench_methods as measure
    from everest.bench.methods import format_methods

    with _measuring() as on_progress:
        values = measure(
            **_asked(options, "size", "batch", "device", "precision", "steps", "rounds"), on_progress=on_progress
        )
    print_result(options, values, format_methods(values))
    return EXIT_FAILURES if any("problem" in row for row in values["rows"]) else EXIT_OK


def bench_loader(options: Namespace) -> int:
    """Measure how fast clips are read."""
    from everest.bench.loader import bench_loader as measure
    from everest.bench.loader import format_loader
    from everest.config import ClipConfig
    from everest.datasets import load_data
    from everest.evaluation import choose_device, parse_views
    from everest.settings import parse

    shape = {"height": options.size, "width": options.size}
    clip = parse(ClipConfig, {"num_frames": options.frames, "stride": options.stride} | shape)
    with _measuring() as on_progress:
        values = measure(
            load_data(options.manifest),
            packed=None if options.packed is None else load_data(options.packed),
            clip=clip,
            clips_per_video=options.clips_per_video,
            views=None if options.views is None else parse_views(options.views),
            num_items=options.items,
            rounds=options.rounds,
            num_workers=options.workers,
            train_step=options.train_step,
            batch=options.batch,
            device=choose_device(options.device),
            on_progress=on_progress,
        )
    print_result(options, values, format_loader(values))
    return EXIT_OK


def bench_dial(options: Namespace) -> int:
    """Evaluate a classifier at several keep ratios."""
    from everest import api
    from everest.bench.dial import bench_dial as measure
    from everest.bench.dial import format_dial
    from everest.evaluation import parse_views

    predictor = api.load(options.checkpoint, device=options.device)
    manifest = api.evaluation_data(Path(options.checkpoint), options.data, options.split)
    with _measuring() as on_progress:
        values = measure(
            predictor.model,
            predictor.info,
            manifest,
            parse_views(options.views),
            ratios=options.ratios,
            on_progress=on_progress,
        )
    print_result(options, values, format_dial(values))
    return EXIT_FAILURES if values["failures"] else EXIT_OK


def bench_inference(options: Namespace) -> int:
    """Time what a classifier is used for."""
    from everest import api
    from everest.bench.inference import bench_inference as measure
    from everest.bench.inference import format_inference
    from everest.evaluation import parse_views

    predictor = api.load(options.checkpoint, device=options.device, keep_ratio=options.keep_ratio)
    manifest = api.evaluation_data(Path(options.checkpoint), options.data, options.split)
    with _measuring() as on_progress:
        values = measure(
            predictor.model,
            predictor.info,
            manifest,
            parse_views(options.views),
            num_videos=options.videos,
            rounds=options.rounds,
            dtype=predictor.dtype,
            num_workers=options.workers,
            on_progress=on_progress,
        )
    print_result(options, values, format_inference(values))
    return EXIT_OK


def bench_growth(options: Namespace) -> int:
    """Time steps of growing batches and clips."""
    from everest.bench.growth import bench_growth as measure
    from everest.bench.growth import draw_growth, format_growth

    wanted = ("size", "task", "selection", "batches", "frames", "device", "precision", "steps")
    with _measuring() as on_progress:
        values = measure(**_asked(options, *wanted), on_progress=on_progress)
    print_result(options, values, format_growth(values))
    if options.plot is not None:
        draw_growth(values, options.plot)
    return EXIT_OK


def bench_suite(options: Namespace) -> int:
    """Measure what is worth knowing of a GPU."""
    from everest.bench.suite import bench_suite as measure
    from everest.bench.suite_table import format_suite

    with _measuring() as on_progress:
        values = measure(
            options.out,
            **_asked(options, "sizes", "batch", "device", "precision", "steps", "minutes"),
            peers=options.peer,
            go_on=options.go_on,
            on_progress=on_progress,
        )
    print_result(options, values, format_suite(values))
    return EXIT_FAILURES if any("problem" in row for row in values["results"]) else EXIT_OK


def bench_scores(options: Namespace) -> int:
    """Compare ways to find the tokens that change."""
    from everest.bench.scores import bench_scores as measure
    from everest.bench.scores import format_scores

    return _on_clips(options, measure, format_scores, checkpoint=options.checkpoint)


def bench_selections(options: Namespace) -> int:
    """Say what each selection keeps of real clips."""
    from everest.bench.selections import bench_selections as measure
    from everest.bench.selections import format_selections

    return _on_clips(options, measure, format_selections)


def _on_clips(
    options: Namespace, measure: Callable[..., dict[str, Any]], to_text: Callable[[dict[str, Any]], str], **more: Any
) -> int:
    """Measure something on clips of a manifest."""
    from everest.datasets import load_data
    from everest.evaluation import choose_device

    with _measuring() as on_progress:
        values = measure(
            load_data(options.manifest),
            size=options.size,
            num_clips=options.clips,
            device=choose_device(options.device),
            on_progress=on_progress,
            **more,
        )
    print_result(options, values, to_text(values))
    return EXIT_OK


def bench_macs(options: Namespace) -> int:
    """Count multiply-adds."""
    from everest.bench.macs import count_macs, format_macs

    asked = _asked(options, "size", "task", "selection", "peer", *_SCORED)
    values = count_macs(**asked, **_network(options))
    print_result(options, values, format_macs(values))
    return EXIT_OK


def bench_supervised(options: Namespace) -> int:
    """Count the supervised rows of the paper's table."""
    from everest.bench.supervised import count_rows, format_rows

    values = count_rows()
    print_result(options, values, format_rows(values))
    return EXIT_OK


def bench_parity(options: Namespace) -> int:
    """Compare with the official release."""
    from everest.bench.parity import main

    return main([*options.folders, *(["--json"] if options.json else [])])


def _asked(options: Namespace, *names: str) -> dict[str, Any]:
    """Give options by name to the function that has parameters of these names."""
    return {name: getattr(options, name) for name in names}


def _network(options: Namespace) -> dict[str, Any]:
    """Give the options that say which network, and of which clips."""
    shape = {"num_frames": options.frames, "height": options.side, "width": options.side}
    asked = _asked(options, "arch", "objective", "teacher", "keep_ratio", "encode_ratio")
    return {"tubelet_size": options.tubelet, **shape, **asked}


@contextmanager
def _measuring() -> Iterator[Callable[[int, int], None]]:
    """Show in percent how far a measurement is; gives what is called with the finished and all of its parts."""
    from everest.training.progress import Progress

    with Progress("measuring", 100) as progress:
        yield lambda done, total: progress.update(100 * done // total)
