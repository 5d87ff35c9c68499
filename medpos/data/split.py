"""Split subjects into training, validation and test by a seed, or into the folds of a cross-validation.

A part depends on the names, the groups and the seed alone, on every machine and version.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from medpos.core.errors import InputError
from medpos.data.schema import SPLITS

Cases = Mapping[str, Sequence[Mapping[str, Any]]]


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


def split_subjects(
    groups: Mapping[str, str], weights: Sequence[int], seed: int, names: Sequence[str] = SPLITS
) -> dict[str, str]:
    """Assign each subject to a part, balanced over the groups.

    Args:
        groups: group of each subject; one group for all if there is nothing to balance.
        weights: proportions of the parts, e.g. (156, 23, 68) of training, validation and test.
        seed: random seed of the split.
        names: names of the parts.

    Returns:
        Part of each subject.
    """
    members = _shuffle_by_group(groups, seed)
    parts: dict[str, str] = {}
    table = apportion_groups([len(subjects) for subjects in members.values()], weights)
    for subjects, row in zip(members.values(), table, strict=True):
        assigned = [part for part, count in zip(names, row, strict=True) for _ in range(count)]
        parts.update(zip(subjects, assigned, strict=True))
    return parts


def deal_subjects(groups: Mapping[str, str], names: Sequence[str], seed: int) -> dict[str, str]:
    """Assign each subject to one of several equal parts, one after another and group by group, as one deals cards.

    So neither the parts nor their shares of a group differ by more than one subject.

    Args:
        groups: group of each subject.
        names: names of the parts.
        seed: random seed.

    Returns:
        Part of each subject.
    """
    subjects = itertools.chain.from_iterable(_shuffle_by_group(groups, seed).values())
    return dict(zip(subjects, itertools.cycle(names), strict=False))


def _shuffle_by_group(groups: Mapping[str, str], seed: int) -> dict[str, list[str]]:
    """Return the shuffled subjects of each group; the groups are shuffled too, because ties go to the first."""
    members: dict[str, list[str]] = {name: [] for name in _shuffled(groups.values(), seed)}
    for subject in _shuffled(groups, seed):
        members[groups[subject]].append(subject)
    return members


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    return sorted(set(names), key=lambda name: sha256(f"{seed}/{name}".encode()).digest())


def keep_copies_together(
    part_of: dict[str, str], entries: Iterable[Mapping[str, Any]], names: Sequence[str] = SPLITS
) -> None:
    """Put subjects with the same image into one part, the first of their parts.

    ACDC's patients 074 and 076 are one image with two annotations.

    Args:
        part_of: part of each subject, which is changed.
        entries: entries of the cases whose subjects may move.
        names: names of the parts, in their order.
    """
    first: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: (names.index(part_of[entry["subject"]]), str(entry["subject"]))):
        if isinstance(entry.get("image_sha256"), str):
            other = first.setdefault(entry["image_sha256"], entry["subject"])
            part_of[entry["subject"]] = part_of[other]


def parse_fold(text: Any) -> tuple[int, int]:
    """Return the number of a fold, from 1, and the number of all folds.

    Raises:
        InputError: the text isn't a fold such as ``2/5``.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII) if isinstance(text, str) else None
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count or count < 2:
        raise InputError(f"fold: expected a fold of two or more, from 1/5 to 5/5 for five, got {text!r}; correct it")
    return number, count


def list_folds(count: int) -> list[str]:
    """List the folds of a cross-validation, ``1/5`` to ``5/5`` for five."""
    return [f"{number}/{count}" for number in range(1, count + 1)]


def split_by_fold(cases: Cases, fold: str) -> dict[str, list[dict[str, Any]]]:
    """Split all cases of a data set anew, so that those of one fold are the test part.

    The folds are balanced over the groups of the subjects. Of the other subjects the share of the prepared split, of
    training and validation, is the validation part. Subjects with the same image stay together.

    Args:
        cases: entries of the cases in each part of the prepared split; an entry holds ``subject``, and ``group`` and
            ``image_sha256`` as far as they are known.
        fold: number of the fold and of all folds, such as ``2/5``.

    Returns:
        Entries of the cases in each part, with their part as ``split``.

    Raises:
        InputError: the fold can't be read, there are fewer subjects than folds, or no subject is there for training.
    """
    number, count = parse_fold(fold)
    entries = sorted((entry for part in SPLITS for entry in cases[part]), key=lambda entry: str(entry["case"]))
    groups = {entry["subject"]: str(entry.get("group", "")) for entry in reversed(entries)}
    if count > len(groups):
        raise InputError(f"fold: expected at most {len(groups)} folds, one per subject, got {fold}; take fewer folds")
    folds = list_folds(count)
    part_of = deal_subjects(groups, folds, seed=0)
    keep_copies_together(part_of, entries, folds)
    rest = {subject: group for subject, group in groups.items() if part_of[subject] != fold}
    weights = [len({entry["subject"] for entry in cases[part]}) for part in SPLITS[:2]]
    if not weights[0]:
        raise InputError("fold: expected a training subject in the prepared split, got none; prepare more data")
    part_of = {**dict.fromkeys(groups, SPLITS[2]), **split_subjects(rest, weights, number, SPLITS[:2])}
    keep_copies_together(part_of, [entry for entry in entries if entry["subject"] in rest])
    return {part: [{**e, "split": part} for e in entries if part_of[e["subject"]] == part] for part in SPLITS}
