"""Split subjects into training, validation and test by a seed."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from medpos.data.schema import SPLITS


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Divide ``total`` in the proportion of ``weights`` by the largest remainder method.

    Returns:
        One count per weight; at least 1 for each weight above 0 if ``total`` allows.
    """
    counts = [total * weight // sum(weights) for weight in weights]
    remainders = [total * weight % sum(weights) for weight in weights]
    for part in sorted(range(len(weights)), key=lambda part: -remainders[part])[: total - sum(counts)]:
        counts[part] += 1
    wanted = [part for part, weight in enumerate(weights) if weight]
    if total >= len(wanted):
        while empty := [part for part in wanted if not counts[part]]:
            counts[counts.index(max(counts))] -= 1
            counts[empty[0]] += 1
    return counts


def apportion_groups(sizes: Sequence[int], weights: Sequence[int]) -> list[list[int]]:
    """Divide every group in the proportion of ``weights``, with the sums over all groups of :func:`apportion`.

    Args:
        sizes: number of subjects in each group.
        weights: proportions of the parts.

    Returns:
        Counts ``table[group][part]``; each row sums to its group's size.
    """
    whole = sum(weights)
    left = apportion(sum(sizes), weights)
    table = []
    for size in sizes:
        row = [min(size * weight // whole, left[part]) for part, weight in enumerate(weights)]
        left = [rest - count for rest, count in zip(left, row, strict=True)]
        table.append(row)
    cells = [(group, part) for group in range(len(sizes)) for part in range(len(weights))]
    # The cell with the largest deficit comes first; sorting is stable, so ties go to the first group and part.
    cells.sort(key=lambda cell: table[cell[0]][cell[1]] * whole - sizes[cell[0]] * weights[cell[1]])
    while any(left):
        for group, part in cells:
            if left[part] and sum(table[group]) < sizes[group]:
                table[group][part] += 1
                left[part] -= 1
    return table


def split_subjects(groups: Mapping[str, str], weights: Sequence[int], seed: int) -> dict[str, str]:
    """Assign each subject to a part of the split, balanced over the groups.

    Args:
        groups: group of each subject; one group for all if there is nothing to balance.
        weights: proportions of training, validation and test, e.g. (156, 23, 68).
        seed: random seed of the split.

    Returns:
        Part of each subject; it depends on the names, the groups and the seed alone, on every machine and version.
    """
    # The order of the groups is shuffled too, because ties between groups go to the first.
    members: dict[str, list[str]] = {name: [] for name in _shuffled(groups.values(), seed)}
    for subject in _shuffled(groups, seed):
        members[groups[subject]].append(subject)
    parts: dict[str, str] = {}
    table = apportion_groups([len(subjects) for subjects in members.values()], weights)
    for subjects, row in zip(members.values(), table, strict=True):
        assigned = [part for part, count in zip(SPLITS, row, strict=True) for _ in range(count)]
        parts.update(zip(subjects, assigned, strict=True))
    return parts


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    return sorted(set(names), key=lambda name: sha256(f"{seed}/{name}".encode()).digest())
