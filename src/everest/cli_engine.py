"""The options of every command that can work on a Ray cluster."""

import argparse

ENGINES = ("local", "ray")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who does the work."""
    parser.add_argument(
        "--engine", choices=ENGINES, default="local", help="local: processes of this machine; ray: Ray Data"
    )
    parser.add_argument("--ray-address", metavar="ADDRESS", help="of a Ray cluster (default: Ray on this machine)")
