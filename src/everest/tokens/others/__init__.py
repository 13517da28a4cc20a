"""Selections of other systems, and those of ours whose number of tokens follows the clip. Pure functions on tensors."""
