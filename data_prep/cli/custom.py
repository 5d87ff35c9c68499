"""Prepare custom data: two folders of images and label maps, an nnU-Net data set or a Decathlon task."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from data_prep.cli.options import Out, Seed, Strict, Workers

Name = Annotated[str, typer.Option(help="Name of the data set; by default the folder's name.")]
Subject = Annotated[
    str,
    typer.Option(
        help="Regular expression that finds the person in a case's name, such as '^patient[0-9]+': all images of a "
        "person fall into one part of the split. By default every case is a person of its own."
    ),
]


@dataclass(frozen=True)
class Folder:
    """Hold the options of ``folder``."""

    images: Annotated[
        Path, typer.Option(help="Folder of the images: NIfTI, NRRD, MetaImage, Analyze, PNG, TIFF, JPEG or BMP.")
    ]
    labels: Annotated[Path, typer.Option(help="Folder of the label maps, named like their images.")]
    label: Annotated[list[str], typer.Option(help="VALUE=NAME of a class, such as 1=liver; repeat for each class.")]
    out: Out
    channel: Annotated[
        list[str],
        typer.Option(
            help="Name of a channel, such as CT for Hounsfield units; repeat for each. Default: one, called image."
        ),
    ] = field(default_factory=list)
    name: Name = ""
    subject: Subject = ""
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def folder(options: Folder) -> None:
    """Prepare a folder of images and a folder of label maps: pictures or volumes, any number of classes.

    \b
    IMAGES/anna_1.png                            gray; 3 colors with three --channel; volumes with all slices
    LABELS/anna_1.png                            the class of each pixel, 0 is the background

    \b
    Example:
    python -m data_prep folder --images scans --labels masks --label 1=liver --label 2=tumor --out data/liver
    """
    from data_prep.custom import folder as reader
    from data_prep.custom.common import Options

    o = options
    shared = Options(o.name, o.subject, o.seed, o.workers, o.strict)
    typer.echo(reader.prepare(o.images, o.labels, o.label, o.channel, o.out, shared))


@dataclass(frozen=True)
class Nnunet:
    """Hold the options of ``nnunet``."""

    source: Annotated[Path, typer.Option(help="Raw folder such as Dataset001_X (version 2) or Task001_X (version 1).")]
    out: Out
    name: Name = ""
    subject: Subject = ""
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def nnunet(options: Nnunet) -> None:
    """Prepare a data set in nnU-Net's format: classes and channels come from its dataset.json.

    \b
    SOURCE/dataset.json
    SOURCE/imagesTr/CASE_0000.nii.gz             _0001 and so on for further channels
    SOURCE/labelsTr/CASE.nii.gz

    \b
    Example:
    python -m data_prep nnunet --source nnUNet_raw/Dataset001_X --out data/x
    """
    from data_prep.custom import nnunet as reader
    from data_prep.custom.common import Options

    o = options
    typer.echo(reader.prepare(o.source, o.out, Options(o.name, o.subject, o.seed, o.workers, o.strict)))


@dataclass(frozen=True)
class Decathlon:
    """Hold the options of ``decathlon``."""

    source: Annotated[Path, typer.Option(help="Folder of a task, such as Task02_Heart.")]
    out: Out
    name: Name = ""
    subject: Subject = ""
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def decathlon(options: Decathlon) -> None:
    """Prepare a task of the Medical Segmentation Decathlon: classes and channels come from its dataset.json.

    \b
    SOURCE/dataset.json
    SOURCE/imagesTr/la_003.nii.gz                4-D where it has several channels
    SOURCE/labelsTr/la_003.nii.gz

    \b
    Example:
    python -m data_prep decathlon --source Task02_Heart --out data/atrium
    """
    from data_prep.custom import decathlon as reader
    from data_prep.custom.common import Options

    o = options
    typer.echo(reader.prepare(o.source, o.out, Options(o.name, o.subject, o.seed, o.workers, o.strict)))
