"""What ``everest inspect`` does with its options."""

from argparse import Namespace

from everest.commands import EXIT_OK, print_result


def inspect(options: Namespace) -> int:
    """Draw what the method makes of a video."""
    from everest.inspecting import COMPARED, inspect

    report = inspect(
        options.video,
        options.out,
        checkpoint=options.checkpoint,
        compare=COMPARED if options.compare is None else [name for name in options.compare.split(",") if name],
        start_seconds=options.start,
        keep_ratio=options.keep_ratio,
        encode_ratio=options.encode_ratio,
        num_frames=options.num_frames,
        size=options.size,
        stride=options.stride,
        frame_selection=options.frame_selection,
        settings=options.settings,
        seed=options.seed,
        mp4=options.mp4,
    )
    print_result(options, {"out": str(report.out), "files": report.files} | report.values, report.summary())
    return EXIT_OK
