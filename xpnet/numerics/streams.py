"""Streams of random numbers and their owners: no two uses of a seed may draw the same numbers.

Draws within a step come from counter_rng, with one stream for each use: the dropout masks of the hidden layers have
their numbers, 0, 1, ..., and all others are defined below. The validation split and the order of the examples are drawn
on the host, each from its own generator; the initial parameters use the generator of the seed alone.
"""

__all__ = ["AFFINE", "ELASTIC", "INPUT", "ORDER", "SPLIT"]

# Of counter_rng: the dropout masks of the inputs, and the two parts of a distortion.
INPUT, AFFINE, ELASTIC = -1, -2, -3

# Of the host: the examples that are held out, and the order of an epoch's examples.
SPLIT, ORDER = 1, 2
