"""What ``everest embed`` does with its options."""

from argparse import Namespace

from everest.commands import EXIT_FAILURES, EXIT_OK, print_result


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
