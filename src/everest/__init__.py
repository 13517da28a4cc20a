"""EVEREST: masked video autoencoders that train on the tokens that change."""

__version__ = "0.1.0"
