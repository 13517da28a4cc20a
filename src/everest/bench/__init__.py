"""Measurements: parity with the release, seconds per step, multiply-adds, and the peers beside us."""
