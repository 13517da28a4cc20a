"""What ``everest export`` does with its options."""

from argparse import Namespace

from everest.commands import EXIT_FAILURES, EXIT_OK, print_result


def export(options: Namespace) -> int:
    """Write a model for other programs; what does not compute the same is not written."""
    from everest.exporting import export

    report = export(
        options.checkpoint,
        onnx=options.onnx,
        torch_program=options.torch_program,
        aoti=options.aoti,
        hf=options.hf,
        clips=options.clips,
        keep_ratio=options.keep_ratio,
        overwrite=options.overwrite,
    )
    print_result(options, report.to_dict(), report.summary())
    return EXIT_OK if report.is_good else EXIT_FAILURES
