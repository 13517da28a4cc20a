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

    result = run_demo(options.out, settings=options.settings)
    print_result(options, result.metrics, result.summary())
    return EXIT_OK


def completion(options: Namespace) -> int:
    """Print the script that a shell completes commands with."""
    from everest.cli import build_parser
    from everest.completion import write_script

    print(write_script(build_parser(), options.shell))
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
        print_result(options, values, f"weights: {run.folder.weights}")
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
        print_result(options, values, f"weights: {run.folder.weights}\n{told}")
    return EXIT_FAILURES if evaluation is not None and evaluation.failures else EXIT_OK


def evaluate(options: Namespace) -> int:
    """Measure a classifier."""
    from everest import api
    from everest.config import RunConfig
    from everest.evaluation import KEPT_NAME, forget_results
    from everest.training.processes import this_process

    kept = None if options.out is None else options.out / KEPT_NAME
    if options.out is not None:
        _make_empty(options.out, but_for=KEPT_NAME)
    run = RunConfig(device=options.device)
    result = api.evaluate(
        options.checkpoint,
        options.data,
        split=options.split,
        views=options.views,
        run=run,
        decoder=options.decoder,
        keep_ratio=options.keep_ratio,
        cache_dir=options.cache_dir,
        keep=kept,
    )
    if this_process()[0] > 0:  # the main one prints and writes
        return EXIT_OK
    if options.out is not None:
        from everest.visualize import confusion

        (options.out / "evaluation.json").write_text(json.dumps(result.to_dict(), indent=2) + "\n")
        (options.out / "confusion.png").write_bytes(confusion(result.confusion, result.class_names))
    if kept is not None:
        forget_results(kept)
    print_result(options, result.to_dict(), result.summary())
    for failure in result.failures:
        print(f"could not be evaluated: {failure.path}: {failure.reason}", file=sys.stderr)
    return EXIT_FAILURES if result.failures else EXIT_OK


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
    print_result(options, rows, "\n".join(f"{recipe.name:{width}}  {recipe.summary}" for recipe in recipes))
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
    print_result(options, {"name": recipe.name, "docs": recipe.docs} | flat, "\n".join(lines))
    return EXIT_OK


def data_index(options: Namespace) -> int:
    """Write one manifest."""
    from everest.datasets import index_source, read_manifest, with_hashes, write_manifest

    index = index_source(
        options.source, options.format, annotations=options.annotations, videos=options.videos, fold=options.fold
    )
    write_manifest(with_hashes(index.manifest) if options.hashes else index.manifest, options.out)
    written = replace(index, manifest=replace(read_manifest(options.out), note=index.manifest.note))
    print_result(
        options, {"manifest": str(options.out)} | written.to_dict(), f"{written.summary()}\nwritten: {options.out}"
    )
    return EXIT_OK


def data_check(options: Namespace) -> int:
    """Decode every video."""
    from everest.datasets import check_manifest, default_report, load_data, write_quarantine
    from everest.datasets.engine import open_engine
    from everest.training.progress import Progress

    manifest = load_data(options.manifest)
    if options.quarantine is not None and options.quarantine.exists():
        raise ConfigError(f"{options.quarantine}: exists already; name a manifest that does not exist yet")
    if options.quarantine is not None and not options.quarantine.absolute().parent.is_dir():
        raise ConfigError(f"{options.quarantine}: its folder does not exist; make it first")
    kept = options.report or default_report(options.manifest)
    num_files = len({record.source for record in manifest.records})
    with (
        open_engine(options.engine, options.workers, options.ray_address) as engine,
        Progress("checking", num_files) as progress,
    ):
        report = check_manifest(
            manifest,
            on_progress=lambda done, _: progress.update(done),
            report=kept,
            time_limit_seconds=options.time_limit,
            on_skip=progress.skip,
            engine=engine,
        )
    values, lines = {**report.to_dict(), "report": str(kept)}, [report.summary(), f"one line for each file: {kept}"]
    try:
        if options.quarantine is not None:
            quarantine = write_quarantine(report, options.quarantine)
            values["quarantine"] = quarantine.to_dict()
            lines.append(quarantine.summary())
    finally:
        print_result(options, values, "\n".join(lines))
    return EXIT_FAILURES if report.unreadable else EXIT_OK


def data_pack(options: Namespace) -> int:
    """Re-encode clips into shards."""
    from everest.datasets import PackSettings, load_data, pack_manifest
    from everest.datasets.engine import open_engine
    from everest.training.progress import Progress

    manifest = load_data(options.manifest)
    settings = PackSettings(options.short_side, options.keyframe_interval, options.crf, options.clips_per_shard)
    with (
        open_engine(options.engine, options.workers, options.ray_address) as engine,
        Progress("packing", len(manifest)) as progress,
    ):
        report = pack_manifest(
            manifest,
            options.out,
            settings,
            time_limit_seconds=options.time_limit,
            on_progress=lambda done, _: progress.update(done),
            on_skip=progress.skip,
            engine=engine,
        )
    print_result(options, report.to_dict(), f"{report.summary()}\nwritten: {report.manifest.source}")
    return EXIT_FAILURES if report.failures else EXIT_OK


def data_flow(options: Namespace) -> int:
    """Compute optical flow."""
    from everest.datasets import compute_flow, load_data
    from everest.datasets.engine import open_engine
    from everest.training.progress import Progress

    manifest = load_data(options.manifest)
    with (
        open_engine(options.engine, options.workers, options.ray_address) as engine,
        Progress("optical flow", len(manifest)) as progress,
    ):
        report = compute_flow(
            manifest,
            options.out,
            on_progress=lambda done, _: progress.update(done),
            time_limit_seconds=options.time_limit,
            on_skip=progress.skip,
            engine=engine,
        )
    print_result(options, report.to_dict(), f"{report.summary()}\nwritten: {report.folder}")
    return EXIT_FAILURES if report.failures else EXIT_OK


def data_verify(options: Namespace) -> int:
    """Compare shards with the hashes that were taken when they were written."""
    from everest.datasets import verify_shards

    found = verify_shards(options.out)
    print_result(options, asdict(found), "\n".join(found.problems) or "all shards are as they were written")
    return EXIT_FAILURES if found.problems else EXIT_OK


def doctor(options: Namespace) -> int:
    """Say what works here."""
    from everest.doctor import diagnose, format_findings

    findings = diagnose()
    print_result(options, [asdict(finding) for finding in findings], format_findings(findings))
    return EXIT_FAILURES if any(finding.ok is False for finding in findings) else EXIT_OK


def _make_empty(folder: Path, but_for: str = "") -> None:
    """Make a folder before the work that ends in it.

    Args:
        folder: Need not exist.
        but_for: What it may hold: the beginning of the work.

    Raises:
        ConfigError: It holds files, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(path.name != but_for for path in folder.iterdir()):
            raise ConfigError(f"{folder} holds files already: choose a new or empty folder")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to: {error.strerror}") from None


def print_result(options: Namespace, values: Any, text: str) -> None:
    """Print what was found: values where JSON is asked for, else the text."""
    print(json.dumps(values, indent=2) if getattr(options, "json", False) else text)
