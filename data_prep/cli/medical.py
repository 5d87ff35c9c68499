"""Prepare published data sets of patients: JSRT, ACDC, IBSR-18 and DRIVE."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from data_prep.cli.options import Out, Seed, Strict, Workers


@dataclass(frozen=True)
class Jsrt:
    """Hold the options of ``jsrt``."""

    images: Annotated[Path, typer.Option(help="JSRT's folder of *.IMG files, or one above it.")]
    masks: Annotated[Path, typer.Option(help="SCR's folder with fold1 and fold2, directly or in scratch/.")]
    out: Out
    size: Annotated[int, typer.Option(help="Side of the square images in pixels; a divisor of 2048.")] = 1024
    clavicles: Annotated[bool, typer.Option("--clavicles", help="Add both clavicles as classes 4 and 5.")] = False
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def jsrt(options: Jsrt) -> None:
    """Prepare chest X-rays: JSRT images with SCR masks.

    \b
    IMAGES/JPCLN001.IMG ...                      2048 x 2048, 16 bit big-endian, no header
    MASKS/fold1/masks/heart/JPCLN001.gif ...     also 'right lung', 'left lung', 'right clavicle', 'left clavicle'
    MASKS/fold2/masks/heart/JPCLN002.gif ...

    \b
    Example:
    python -m data_prep jsrt --images All247images --masks scratch --out data/jsrt --workers 4
    """
    from data_prep.datasets import jsrt as reader

    o = options
    typer.echo(reader.prepare(o.images, o.masks, o.out, o.size, o.clavicles, o.seed, o.workers, o.strict))


@dataclass(frozen=True)
class Acdc:
    """Hold the options of ``acdc``."""

    source: Annotated[Path, typer.Option(help="Folder with patientNNN, directly or in training/ and testing/.")]
    out: Out
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def acdc(options: Acdc) -> None:
    """Prepare cardiac MRI: ACDC, end-diastole and end-systole. The seed splits all subjects, those in testing/ too.

    \b
    SOURCE/training/patient001/Info.cfg                        lines ED: 1, ES: 12, Group: DCM
    SOURCE/training/patient001/patient001_frame01.nii.gz       image
    SOURCE/training/patient001/patient001_frame01_gt.nii.gz    its label map

    \b
    Example:
    python -m data_prep acdc --source ACDC/database --out data/acdc --workers 4
    """
    from data_prep.datasets import acdc as reader

    typer.echo(reader.prepare(options.source, options.out, options.seed, options.workers, options.strict))


@dataclass(frozen=True)
class Ibsr:
    """Hold the options of ``ibsr``."""

    source: Annotated[Path, typer.Option(help="Folder with IBSR's NIfTI or Analyze files, at any depth.")]
    out: Out
    values: Annotated[
        str, typer.Option(help="Values of CSF, gray and white matter in the label files; they become 1, 2, 3.")
    ] = "1,2,3"
    fill: Annotated[
        bool, typer.Option("--fill", help="Read segTRI_fill, which labels gaps in the brain mask as CSF.")
    ] = False
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def ibsr(options: Ibsr) -> None:
    """Prepare brain MRI: IBSR-18, skull-stripped, with CSF, gray and white matter. Slices are axial, 256 x 128.

    \b
    SOURCE/IBSR_01/IBSR_01_ana_strip.nii.gz      image; or the Analyze pair .hdr and .img
    SOURCE/IBSR_01/IBSR_01_segTRI_ana.nii.gz     its label map

    \b
    Example:
    python -m data_prep ibsr --source IBSR_nifti_stripped --out data/ibsr --workers 4
    """
    from data_prep.datasets import ibsr as reader

    o = options
    typer.echo(reader.prepare(o.source, o.out, o.values, o.fill, o.seed, o.workers, o.strict))


@dataclass(frozen=True)
class Drive:
    """Hold the options of ``drive``."""

    source: Annotated[Path, typer.Option(help="Folder with DRIVE's folders training and test.")]
    out: Out
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def drive(options: Drive) -> None:
    """Prepare retinal vessels: DRIVE. The official test images stay the test part; the seed splits the others.

    \b
    SOURCE/training/images/21_training.tif       color image
    SOURCE/training/1st_manual/21_manual1.gif    its vessels
    SOURCE/training/mask/21_training_mask.gif    its field of view
    SOURCE/test/images/01_test.tif               and so on

    \b
    Example:
    python -m data_prep drive --source DRIVE --out data/drive
    """
    from data_prep.datasets import drive as reader

    typer.echo(reader.prepare(options.source, options.out, options.seed, options.workers, options.strict))


@dataclass(frozen=True)
class Polyp:
    """Hold the options of ``polyp``."""

    source: Annotated[Path, typer.Option(help="Folder with Original and 'Ground Truth', or with Frame and GT.")]
    out: Out
    sequences: Annotated[
        Path | None, typer.Option(help="CSV file with the columns frame and sequence, for CVC-ClinicDB.")
    ] = None
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def polyp(options: Polyp) -> None:
    """Prepare polyps in colonoscopy: CVC-ClinicDB, or ASU-Mayo's videos. Frames of a video stay in one part.

    \b
    SOURCE/Original/1.tif                        color frame of CVC-ClinicDB, 384 x 288
    SOURCE/Ground Truth/1.tif                    its polyps
    SOURCE/Frame/VIDEO/*.jpg                     or frames of videos
    SOURCE/GT/VIDEO/*.png

    \b
    Example:
    python -m data_prep polyp --source CVC-ClinicDB --out data/polyp --workers 4
    """
    from data_prep.datasets import polyp as reader

    o = options
    typer.echo(reader.prepare(o.source, o.out, o.sequences, o.seed, o.workers, o.strict))


@dataclass(frozen=True)
class Lits:
    """Hold the options of ``lits``."""

    source: Annotated[Path, typer.Option(help="Folder with volume-N.nii and segmentation-N.nii, at any depth.")]
    out: Out
    lesions: Annotated[bool, typer.Option("--lesions", help="Keep lesions as class 2, not as liver.")] = False
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def lits(options: Lits) -> None:
    """Prepare livers in CT: LiTS, the Liver Tumor Segmentation challenge of MICCAI 2017 and 2018.

    \b
    SOURCE/Training Batch 1/volume-0.nii         Hounsfield units
    SOURCE/Training Batch 1/segmentation-0.nii   1 liver, 2 lesion

    \b
    Example:
    python -m data_prep lits --source LITS17 --out data/lits --workers 4
    """
    from data_prep.datasets import lits as reader

    o = options
    typer.echo(reader.prepare(o.source, o.out, o.lesions, o.seed, o.workers, o.strict))


@dataclass(frozen=True)
class Lidc:
    """Hold the options of ``lidc``."""

    source: Annotated[Path, typer.Option(help="Folder with LIDC-IDRI-NNNN, at any depth.")]
    out: Out
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def lidc(options: Lidc) -> None:
    """Prepare lung nodules in CT: LIDC-IDRI, a cube of 64 mm around each nodule that two readers outlined.

    \b
    SOURCE/LIDC-IDRI-0001/STUDY/SERIES/000001.dcm    slices of one series
    SOURCE/LIDC-IDRI-0001/STUDY/SERIES/069.xml       outlines of its nodules by four readers

    \b
    Example:
    python -m data_prep lidc --source LIDC-IDRI --out data/lidc --workers 4
    """
    from data_prep.datasets import lidc as reader

    typer.echo(reader.prepare(options.source, options.out, options.seed, options.workers, options.strict))
