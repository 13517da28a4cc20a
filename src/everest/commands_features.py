"""What ``everest embed``, ``everest search`` and ``everest probe`` do with their options."""

from argparse import Namespace

from everest.commands import EXIT_FAILURES, EXIT_OK, print_result
from everest.errors import ConfigError


def embed(options: Namespace) -> int:
    """Write features of videos."""
    from everest import api
    from everest.datasets.engine import open_engine
    from everest.datasets.ray_engine import RayEngine

    with open_engine(options.engine, address=options.ray_address) as engine:
        report = api.embed(
            options.checkpoint,
            options.videos,
            options.out,
            split=options.split,
            layer=options.layer,
            per_token=options.tokens,
            window_seconds=options.window,
            hop_seconds=options.hop,
            views=options.views,
            keep_ratio=options.keep_ratio,
            device=options.device,
            decoder=options.decoder,
            engine=engine if isinstance(engine, RayEngine) else None,
        )
    print_result(options, report.to_dict(), report.summary())
    return EXIT_FAILURES if report.failures else EXIT_OK


def search(options: Namespace) -> int:
    """Find the nearest clips."""
    from everest.features_api import search

    report = search(
        options.features,
        options.video,
        top=options.top,
        start_seconds=options.start,
        end_seconds=options.end,
        same_file=options.same_file,
        checkpoint=options.checkpoint,
        device=options.device,
    )
    print_result(options, report.to_dict(), report.summary())
    return EXIT_OK


def probe(options: Namespace) -> int:
    """Measure what features are worth."""
    from everest.features_api import probe

    try:
        num_neighbors = [int(text) for text in options.neighbors.split(",")]
    except ValueError:
        raise ConfigError(f"--neighbors takes numbers such as 1,20, given: {options.neighbors}") from None
    report = probe(options.train, options.test, num_neighbors=num_neighbors, seed=options.seed)
    print_result(options, report.to_dict(), report.summary())
    return EXIT_OK
