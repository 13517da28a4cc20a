"""What ``everest replay`` does with its options; see :mod:`everest.commands`."""

from argparse import Namespace

from everest.commands import EXIT_FAILURES, EXIT_OK, print_result


def replay(options: Namespace) -> int:
    """Repeat a skipped step; 1 where it is finite here."""
    from everest.datasets import load_data
    from everest.training.replay import replay_step

    data = None if options.data is None else load_data(options.data)
    result = replay_step(options.file, device=options.device, data=data)
    print_result(options, result.to_dict(), result.summary())
    return EXIT_OK if result.is_reproduced else EXIT_FAILURES
