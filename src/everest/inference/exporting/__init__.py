"""Trained models as files for other programs, which choose their tokens themselves; each is compared with PyTorch."""
