"""Labels for the organs that a table names: :mod:`medpos.labels` where it knows them, else a free colour each."""

from collections.abc import Iterable
from itertools import cycle

from medpos.labels import ACDC, BACKGROUND, CLAVICLES, JSRT, Label

_KNOWN = (JSRT, (*JSRT, *CLAVICLES), ACDC)
# Okabe-Ito: what the labels of medpos leave, then those that they use too.
_FREE = ("#CC79A7", "#009E73", "#F0E442", "#E69F00", "#56B4E9", "#0072B2", "#D55E00")


def labels_of(names: Iterable[str]) -> tuple[Label, ...]:
    """The classes of a table, background first.

    Args:
        names: the foreground organs in the order of their indices, as ``metrics.csv`` lists them; repeats are dropped.

    Returns:
        The labels of a known data set where the names are just those; else indices 1, 2 and so on, with the known
        colours for known names and free ones for the others.
    """
    organs = tuple(dict.fromkeys(names))
    for labels in _KNOWN:
        if organs == tuple(label.name for label in labels[1:]):
            return labels
    colours = {label.name: label.colour for labels in _KNOWN for label in labels}
    taken = {colours[name] for name in organs if name in colours}
    free = cycle([colour for colour in _FREE if colour not in taken] or _FREE)
    found = (Label(n, name, colours.get(name) or next(free)) for n, name in enumerate(organs, 1))
    return (BACKGROUND, *found)
