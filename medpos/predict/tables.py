"""Write the tables of a folder of predictions, over all calls into it."""

from collections.abc import Collection, Sequence
from typing import Any

from medpos.core.files import write_text
from medpos.core.labels import Label
from medpos.io.label_descriptions import write_itksnap_labels
from medpos.predict import measurements, records
from medpos.predict.inputs import split_phase
from medpos.predict.ledger import Ledger

MEASUREMENTS = "measurements.csv"
WARNINGS = "warnings.csv"
FAILED = "failed.txt"
NAMES = "names.csv"
LABELS = "labels.txt"
LEFT_OUT = "left_out.csv"
LIGHTS = "lights.csv"


def write_tables(ledger: Ledger, labels: Sequence[Label], names: Collection[str]) -> int:
    """Write the tables of all cases of a folder, and the list of those that could not be segmented.

    Args:
        ledger: ledger of the folder.
        labels: classes, background first.
        names: names of the cases of this call.

    Returns:
        Number of cases of this call with a warning.

    Raises:
        InputError: the folder can't be written to.
    """
    rows: list[dict[str, Any]] = []
    found: list[dict[str, str]] = []
    named: list[dict[str, str]] = []
    is_nifti = False
    indexed: list[tuple[str, str, list[dict[str, Any]]]] = []
    for entry in ledger.entries.values():
        named += [{"case": entry.name, "file": file} for file in entry.files]
        record = records.read(ledger.out, entry.name)
        if record is None:
            continue
        entry.failure = ""
        is_nifti = is_nifti or record["files"][0].endswith(".nii.gz")
        subject, phase = split_phase(entry.name)
        measured = record["measurements"]
        rows += [{"case": entry.name, "subject": subject, "phase": phase, **row} for row in measured]
        found += [{"case": entry.name, "warning": text} for text in record["warnings"]]
        indexed.append((subject, phase, measured))
    _write_lights(ledger)
    _write(ledger, rows + measurements.measure_ventricles(indexed), found, named)
    if is_nifti:
        write_itksnap_labels(ledger.out / LABELS, labels)
    write_text(ledger.out / FAILED, "".join(f"{e.failure}\n" for e in ledger.entries.values() if e.failure))
    ledger.write()
    return len({row["case"] for row in found}.intersection(names))


def find_lights(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """Return the light of every case by its name: ``color``, ``score``, ``reasons`` and ``detectors``."""
    records_of = {entry.name: records.load(ledger.out, entry.name) for entry in ledger.entries.values()}
    return {name: record["light"] for name, record in records_of.items() if record and record.get("light")}


def _write_lights(ledger: Ledger) -> None:
    found = find_lights(ledger)
    rows = [
        {"case": name, "light": light["color"], "score": light["score"], "reasons": "; ".join(light["reasons"])}
        for name, light in found.items()
    ]
    if rows:
        measurements.write_table(ledger.out / LIGHTS, ("case", "light", "score", "reasons"), rows)


def _write(
    ledger: Ledger, rows: Sequence[dict[str, Any]], found: Sequence[dict[str, str]], named: Sequence[dict[str, str]]
) -> None:
    out = ledger.out
    measurements.write_table(out / MEASUREMENTS, measurements.COLUMNS, rows)
    measurements.write_table(out / WARNINGS, ("case", "warning"), found)
    if named:
        measurements.write_table(out / NAMES, ("case", "file"), named)
    if ledger.left_out:
        left = [{"reason": reason, "file": name, "count": n} for (reason, name), n in ledger.left_out.items()]
        measurements.write_table(out / LEFT_OUT, ("reason", "file", "count"), left)
