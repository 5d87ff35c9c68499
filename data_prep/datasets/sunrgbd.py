"""Prepare rooms of SUN RGB-D (Song et al., CVPR 2015) with its 37 classes, color pictures without their depth.

The label maps of the toolbox are one MATLAB file of 64 GB in memory; A. Handa published them as pictures
(github.com/ankurhanda/sunrgbd-meta-data). ``SUNRGBD-train_images`` and ``SUNRGBD-test_images`` hold ``img-000001.jpg``
and so on, ``sunrgbd_train_test_labels`` the label maps of both: ``img-000001.png`` to ``img-005050.png`` are those of
the test pictures, ``img-005051.png`` that of the first training picture.

The published test part stays; a tenth of the training pictures, by seed, is the validation part. The pictures have the
sizes of four cameras, 561 x 427 to 730 x 530 pixels.
"""

from pathlib import Path

from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from data_prep.listing import find_by_name
from data_prep.pictures import read_label
from data_prep.published import describe_shortfall
from data_prep.scenes import make_volume, read_picture
from medpos.core import labels
from medpos.core.colors import RGB
from medpos.core.errors import InputError
from medpos.data.schema import ASSUMED, is_phantom

WEIGHTS = (9, 1, 0)
COUNTS = {"train": 5285, "test": 5050}
LABELS = "sunrgbd_train_test_labels"
DESCRIPTION = "Rooms (SUN RGB-D, 37 classes), color alone; pixels that nobody labeled are void."


def prepare(source: Path, out: Path, seed: int = 0, workers: int = 1, strict: bool = False) -> str:
    """Prepare SUN RGB-D with the arguments of ``python -m data_prep sunrgbd``, and return one line about it."""
    cases = find_cases(source)
    phantom = is_phantom(source)
    dataset = Dataset("sunrgbd", DESCRIPTION, labels.SUNRGBD, WEIGHTS, (0, 255), phantom, RGB, spacing=ASSUMED)
    done = prepare_dataset(dataset, cases, out, seed, workers, strict)
    tested = sum(case.part == "test" for case in cases)
    return done + describe_shortfall({"train": len(cases) - tested, "test": tested}, COUNTS)


def find_cases(source: Path) -> list[Case]:
    """Pair the pictures with their label maps by the numbers in their names.

    Args:
        source: folder that holds the three folders of the downloads.

    Raises:
        InputError: a folder is missing or empty, or a picture has no label map.
    """
    maps = find_by_name(source / LABELS, r"img-(\d{6})\.png")
    cases = []
    for part, shift in (("train", COUNTS["test"]), ("test", 0)):
        folder = source / f"SUNRGBD-{part}_images"
        pictures = find_by_name(folder, r"img-(\d{6})\.jpe?g")
        if not pictures:
            raise InputError(f"{folder}: expected img-000001.jpg and so on, found none; unpack the download again.")
        for number, path in sorted(pictures.items()):
            name = f"{int(number) + shift:06d}"
            if name not in maps:
                raise InputError(f"{path}: no label map img-{name}.png in {source / LABELS}; unpack it again.")
            sources = {"image": path, "label": maps[name]}
            case = f"{part}_{number}"
            cases.append(Case(case, case, sources, read_case, part="test" if part == "test" else ""))
    return cases


def read_case(case: Case) -> Volume:
    """Read one picture.

    Returns:
        Image (columns, rows, 1, 3) uint8; label (columns, rows, 1): 0 void, 1 to 37.

    Raises:
        InputError: a picture is damaged, a label value is above 37, all pixels are void, or the sizes differ.
    """
    path = case.sources["label"]
    label = read_label(path).data
    if not label.any():
        raise InputError(f"{path}: expected pixels of a class, all are 0, void; unpack the download again.")
    return make_volume(read_picture(case.sources["image"]), label, path, len(labels.SUNRGBD))
