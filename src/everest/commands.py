"""What each command of the program does with its options: call the Python function of the same name and print.

Heavy imports wait inside the functions, so that ``everest --help`` and ``everest doctor`` work on a broken
installation.
"""

import json
import sys
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from everest.errors import ConfigError

EXIT_OK, EXIT_FAILURES, EXIT_UNUSABLE = 0, 1, 2


def demo(options: Namespace) -> int:
    """Everything once on the bundled clips."""
    from everest.demo import run_demo

    result = run_demo(options.out)
    _print(options, result.metrics, result.summary())
    return EXIT_OK


def pretrain(options: Namespace) -> int:
    """Learn from unlabelled videos."""
    from everest import api

    run = api.pretrain(
        recipe=options.recipe, data=options.data, out=options.out, settings=options.settings, resume=options.resume
    )
    values = {"out": str(options.out), "weights": str(run.folder.weights), "num_steps": run.num_steps}
    if run.is_main:
        values |= {"manifest_digest": run.manifest_digest, "failed": run.failed}
        _print(options, values, f"weights: {run.folder.weights}")
    return EXIT_OK


def finetune(options: Namespace) -> int:
    """Train a classifier and evaluate it."""
    from everest import api

    result = api.finetune(
        recipe=options.recipe,
        data=options.data,
        out=options.out,
        init=options.init,
        settings=options.settings,
        resume=options.resume,
    )
    run, evaluation = result.run, result.evaluation
    values = {"out": str(options.out), "weights": str(run.folder.weights), "num_steps": run.num_steps}
    values |= {"manifest_digest": run.manifest_digest, "failed": run.failed}
    values["evaluation"] = None if evaluation is None else evaluation.to_dict()
    told = "no split to evaluate on" if evaluation is None else evaluation.summary()
    if run.is_main:
        _print(options, values, f"weights: {run.folder.weights}\n{told}")
    return EXIT_FAILURES if evaluation is not None and evaluation.failures else EXIT_OK


def evaluate(options: Namespace) -> int:
    """Measure a classifier."""
    from everest import api
    from everest.config import RunConfig

    if options.out is not None:
        _make_empty(options.out)
    run = RunConfig(device=options.device)
    result = api.evaluate(
        options.checkpoint, options.data, split=options.split, views=options.views, run=run, decoder=options.decoder
    )
    if options.out is not None:
        from everest.visualize import confusion

        (options.out / "evaluation.json").write_text(json.dumps(result.to_dict(), indent=2) + "\n")
        (options.out / "confusion.png").write_bytes(confusion(result.confusion, result.class_names))
    _print(options, result.to_dict(), result.summary())
    for failure in result.failures:
        print(f"could not be evaluated: {failure.path}: {failure.reason}", file=sys.stderr)
    return EXIT_FAILURES if result.failures else EXIT_OK


def predict(options: Namespace) -> int:
    """Name what happens in videos; what cannot be read is said, and the rest is predicted."""
    from everest import api
    from everest.evaluation import parse_views
    from everest.inference import DEFAULT_VIEWS, FailedPrediction
    from everest.training.progress import Progress

    predictor = api.load(options.checkpoint, device=options.device)
    views = DEFAULT_VIEWS if options.views is None else parse_views(options.views)
    if options.decoder is not None:
        views = views.model_copy(update={"decoder": options.decoder})
    with Progress("predicting", len(options.videos)) as progress:
        results = predictor.predict_many(
            options.videos, lambda done, _: progress.update(done), views=views, top=options.top, num_workers=-1
        )
    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    failed = [result for result in results if isinstance(result, FailedPrediction)]
    for result in results:
        if isinstance(result, FailedPrediction):
            rows.append({"video": str(result.source), "error": result.reason})
            continue
        classes = [{"name": name, "probability": probability} for name, probability in result.classes]
        rows.append({"video": str(result.source), "classes": classes})
        lines.append(str(result.source))
        lines += [f"  {c['probability']:6.1%}  {c['name']}" for c in classes]
    if lines or options.json:
        _print(options, rows, "\n".join(lines))
    for failure in failed:
        print(f"error: {failure.source}: {failure.reason}", file=sys.stderr)
    return EXIT_UNUSABLE if failed else EXIT_OK


def recipe_list(options: Namespace) -> int:
    """List the recipes."""
    from everest.recipes import list_recipes

    recipes = list_recipes()
    width = max(len(recipe.name) for recipe in recipes)
    rows = [
        {
            "name": recipe.name,
            "summary": recipe.summary,
            "pretrain": recipe.pretrain is not None,
            "finetune": recipe.finetune is not None,
        }
        for recipe in recipes
    ]
    _print(options, rows, "\n".join(f"{recipe.name:{width}}  {recipe.summary}" for recipe in recipes))
    return EXIT_OK


def recipe_show(options: Namespace) -> int:
    """Show the settings of a recipe."""
    from everest.recipes import get_recipe
    from everest.settings import flatten

    recipe = get_recipe(options.name)
    stages = {"pretrain": recipe.pretrain, "finetune": recipe.finetune}
    flat = {task: flatten(config) for task, config in stages.items() if config is not None}
    lines = [recipe.docs]
    for task, settings in flat.items():
        lines += ["", f"everest {task} --recipe {recipe.name}"]
        lines += [f"  {key} = {json.dumps(value)}" for key, value in settings.items() if key != "task"]
    _print(options, {"name": recipe.name, "docs": recipe.docs} | flat, "\n".join(lines))
    return EXIT_OK


def data_index(options: Namespace) -> int:
    """Write one manifest."""
    from everest.datasets import index_source, read_manifest, write_manifest

    index = index_source(
        options.source, options.format, annotations=options.annotations, videos=options.videos, fold=options.fold
    )
    write_manifest(index.manifest, options.out)
    written = replace(index, manifest=replace(read_manifest(options.out), note=index.manifest.note))
    _print(options, {"manifest": str(options.out)} | written.to_dict(), f"{written.summary()}\nwritten: {options.out}")
    return EXIT_OK


def data_check(options: Namespace) -> int:
    """Decode every video."""
    from everest.datasets import check_manifest, default_report, load_data, write_quarantine
    from everest.training.progress import Progress

    manifest = load_data(options.manifest)
    if options.quarantine is not None and options.quarantine.exists():
        raise ConfigError(f"{options.quarantine}: exists already; name a manifest that does not exist yet")
    if options.quarantine is not None and not options.quarantine.absolute().parent.is_dir():
        raise ConfigError(f"{options.quarantine}: its folder does not exist; make it first")
    kept = options.report or default_report(options.manifest)
    with Progress("checking", len({record.source for record in manifest.records})) as progress:
        report = check_manifest(
            manifest,
            options.workers,
            lambda done, _: progress.update(done),
            report=kept,
            time_limit_seconds=options.time_limit,
            on_skip=progress.skip,
        )
    values, lines = {**report.to_dict(), "report": str(kept)}, [report.summary(), f"one line for each file: {kept}"]
    try:
        if options.quarantine is not None:
            quarantine = write_quarantine(report, options.quarantine)
            values["quarantine"] = quarantine.to_dict()
            lines.append(quarantine.summary())
    finally:
        _print(options, values, "\n".join(lines))
    return EXIT_FAILURES if report.unreadable else EXIT_OK


def data_pack(options: Namespace) -> int:
    """Re-encode clips into shards."""
    from everest.datasets import PackSettings, load_data, pack_manifest
    from everest.training.progress import Progress

    manifest = load_data(options.manifest)
    settings = PackSettings(options.short_side, options.keyframe_interval, options.crf, options.clips_per_shard)
    with Progress("packing", len(manifest)) as progress:
        report = pack_manifest(
            manifest,
            options.out,
            settings,
            num_workers=options.workers,
            time_limit_seconds=options.time_limit,
            on_progress=lambda done, _: progress.update(done),
            on_skip=progress.skip,
        )
    _print(options, report.to_dict(), f"{report.summary()}\nwritten: {report.manifest.source}")
    return EXIT_FAILURES if report.failures else EXIT_OK


def data_verify(options: Namespace) -> int:
    """Compare shards with the hashes that were taken when they were written."""
    from everest.datasets import verify_shards

    found = verify_shards(options.out)
    _print(options, asdict(found), "\n".join(found.problems) or "all shards are as they were written")
    return EXIT_FAILURES if found.problems else EXIT_OK


def bench_step(options: Namespace) -> int:
    """Time a training step."""
    from everest.bench.step import bench_step as measure
    from everest.bench.step import format_step

    if options.profile:
        return _bench_profile(options)
    wanted = ("size", "task", "selection", "batch", "device", "precision", "steps", "compile", "peer", "scoring")
    values = measure(**{name: getattr(options, name) for name in wanted})
    _print(options, values, format_step(values))
    return EXIT_OK


def _bench_profile(options: Namespace) -> int:
    """Say where the time of a training step goes."""
    from everest.bench.profile import format_profile, profile_step
    from everest.bench.tasks import build_step, describe_task

    if options.peer is not None or options.compile:
        raise ConfigError("a profile is of our own model as it is: give neither --peer nor --compile")
    info = describe_task(options.size, options.task, options.selection, scoring=options.scoring)
    step = build_step(info, options.batch, device=options.device, precision=options.precision)
    values = profile_step(step, steps=options.steps)
    _print(options, values, format_profile(values))
    return EXIT_OK


def bench_peers(options: Namespace) -> int:
    """Time a training step beside others."""
    from everest.bench.peers import bench_peers as measure
    from everest.bench.peers import format_peers
    from everest.training.progress import Progress

    with Progress("measuring", 100) as progress:
        values = measure(
            size=options.size,
            task=options.task,
            batch=options.batch,
            device=options.device,
            precision=options.precision,
            steps=options.steps,
            rounds=options.rounds,
            others=options.peer,
            on_progress=lambda done, total: progress.update(100 * done // total),
        )
    _print(options, values, format_peers(values))
    asked_for = [row for row in values["rows"] if row["name"] in options.peer]
    return EXIT_FAILURES if any("problem" in row for row in asked_for) else EXIT_OK


def bench_loader(options: Namespace) -> int:
    """Measure how fast clips are read."""
    from everest.bench.loader import bench_loader as measure
    from everest.bench.loader import format_loader
    from everest.config import ClipConfig
    from everest.datasets import load_data
    from everest.evaluation import choose_device, parse_views
    from everest.settings import parse
    from everest.training.progress import Progress

    shape = {"height": options.size, "width": options.size}
    clip = parse(ClipConfig, {"num_frames": options.frames, "stride": options.stride} | shape)
    with Progress("measuring", 100) as progress:
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
            on_progress=lambda done, total: progress.update(100 * done // total),
        )
    _print(options, values, format_loader(values))
    return EXIT_OK


def bench_growth(options: Namespace) -> int:
    """Time steps of growing batches and clips."""
    from everest.bench.growth import bench_growth as measure
    from everest.bench.growth import draw_growth, format_growth
    from everest.training.progress import Progress

    wanted = ("size", "task", "selection", "batches", "frames", "device", "precision", "steps")
    with Progress("measuring", len(options.batches) + len(options.frames)) as progress:
        values = measure(
            **{name: getattr(options, name) for name in wanted}, on_progress=lambda done, _: progress.update(done)
        )
    _print(options, values, format_growth(values))
    if options.plot is not None:
        draw_growth(values, options.plot)
    return EXIT_OK


def bench_scores(options: Namespace) -> int:
    """Compare ways to find the tokens that change."""
    from everest.bench.scores import bench_scores as measure
    from everest.bench.scores import format_scores
    from everest.datasets import load_data
    from everest.evaluation import choose_device
    from everest.training.progress import Progress

    with Progress("measuring", 4) as progress:
        values = measure(
            load_data(options.manifest),
            checkpoint=options.checkpoint,
            size=options.size,
            num_clips=options.clips,
            device=choose_device(options.device),
            on_progress=lambda done, _: progress.update(done),
        )
    _print(options, values, format_scores(values))
    return EXIT_OK


def bench_macs(options: Namespace) -> int:
    """Count multiply-adds."""
    from everest.bench.macs import count_macs, format_macs

    values = count_macs(options.size, options.task, options.selection, peer=options.peer, scoring=options.scoring)
    _print(options, values, format_macs(values))
    return EXIT_OK


def bench_parity(options: Namespace) -> int:
    """Compare with the official release."""
    from everest.bench.parity import main

    return main([*options.folders, *(["--json"] if options.json else [])])


def doctor(options: Namespace) -> int:
    """Say what works here."""
    from everest.doctor import diagnose, format_findings

    findings = diagnose()
    _print(options, [asdict(finding) for finding in findings], format_findings(findings))
    return EXIT_FAILURES if any(finding.ok is False for finding in findings) else EXIT_OK


def _make_empty(folder: Path) -> None:
    """Make a folder before the work that ends in it.

    Raises:
        ConfigError: It holds files, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} holds files already: choose a new or empty folder")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to: {error.strerror}") from None


def _print(options: Namespace, values: Any, text: str) -> None:
    print(json.dumps(values, indent=2) if getattr(options, "json", False) else text)
