"""What ``everest ui`` does with its options."""

from argparse import Namespace

from everest.commands import EXIT_OK


def ui(options: Namespace) -> int:
    """Serve the page until it is ended."""
    from everest.web import serve

    serve(
        options.checkpoints,
        host=options.host,
        port=options.port,
        device=options.device,
        max_megabytes=options.max_megabytes,
        names=options.names,
        say=lambda line: print(line, flush=True),
    )
    return EXIT_OK
