"""List the readers that are fuzzed, each with sound files to damage."""

import gzip
import json
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from PIL import Image

from data_prep import verify
from data_prep.custom import decathlon, nnunet
from data_prep.custom.declaration import read_declaration
from data_prep.datasets import acdc
from medpos.bundle.keys import check_entry_point
from medpos.bundle.launch import merge_config
from medpos.bundle.startup import check_keys, check_nested_keys
from medpos.bundle.values import check_expressions, check_references, check_values
from medpos.core.arrays import save_arrays
from medpos.core.files import read_csv
from medpos.core.labels import Label
from medpos.data.folder import DataFolder
from medpos.data.leaks import find_leaks
from medpos.data.schema import SPLITS
from medpos.data.training_data import TrainingData
from medpos.io.archives import Unpacker
from medpos.io.walk import LeftOut
from medpos.predict import inputs
from medpos.predict.stored import Stored
from medpos.report import sources
from medpos.report.calibration import (
    collect_calibration,
    collect_reliability,
    collect_scaling,
    draw_calibration,
    tabulate_calibration,
    tabulate_scaling,
)
from medpos.report.confusion import collect_confusions
from medpos.report.failures import collect_predicted, tabulate_predictors
from medpos.runs import checkpoints
from medpos.runs.calibration import PREDICTED_COLUMNS, SCALING_COLUMNS
from medpos.runs.files import Run
from medpos.study import declaration
from medpos.trust.detectors import Sample
from medpos.trust.evidence import LAYOUT
from medpos.trust.light import TrafficLight
from medpos.trust.quality import DicePredictor, Example, Fit, Plausibility
from medpos.trust.signs import FEATURES
from medpos.trust.temperature import KINDS

ROOT = Path(__file__).resolve().parents[3]
BUNDLES = ROOT / "bundles"


@dataclass(frozen=True)
class Target:
    """Name a reader and the files that it reads.

    Args:
        name: name of the target.
        make: function that writes a sound folder and returns the files in it to damage.
        read: function that reads the folder, given the damaged file.
    """

    name: str
    make: Callable[[Path], list[Path]]
    read: Callable[[Path], object]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 4096, shape, dtype=np.uint16)


# --- prepared folders ------------------------------------------------------------------------------------------------


def _nifti(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.5, 1.5, 8, 1])), path)
    return path


def make_prepared(folder):
    parts = {}
    for number, part in enumerate(SPLITS):
        name = f"p{number}"
        image = _nifti(folder / f"images/{name}.nii.gz", pixels(12, 10, 1, seed=number).astype(np.float32))
        label = _nifti(folder / f"labels/{name}.nii.gz", (pixels(12, 10, 1, seed=number) % 2).astype(np.uint8))
        entry = {"case": name, "subject": name, "shape": [12, 10, 1], "spacing_mm": [1.5, 1.5, 8.0], "sources": {}}
        for kind, path in (("image", image), ("label", label)):
            entry |= {kind: f"{kind}s/{path.name}", f"{kind}_sha256": verify.sha256(path.read_bytes())}
        parts[part] = [entry]
    colors = {"colour": "#ff0000"}
    labels = [{"index": 0, "name": "background", "colour": "#000000"}, {"index": 1, "name": "heart", **colors}]
    about = {"schema_version": 1, "name": "x", "description": "x", "phantom": True, "labels": labels, "seed": 0}
    intensity = {"range": [0, 4095], "mean": 2000.0, "std": 1000.0}
    extra = {"warnings": [], "channels": ["image"], "ignore_index": 255, "intensity": intensity}
    return [write(folder / "dataset.json", json.dumps({**about, **extra, **parts}))]


def read_prepared(path):
    verify.check(path.parent)
    found = DataFolder(path.parent)
    cases = {part: found.cases(part) for part in SPLITS}
    find_leaks(cases)
    return found.intensity, found.nominal_spacing, found.is_flat, TrainingData.from_folder(found).to_json()


def make_training_data(folder):
    make_prepared(folder / "data")
    data = TrainingData.from_folder(DataFolder(folder / "data"))
    return [write(folder / "data.json", json.dumps(data.to_json()))]


# --- raw data --------------------------------------------------------------------------------------------------------


def make_acdc(folder):
    for frame in (1, 12):
        for end in ("", "_gt"):
            write(folder / f"patient001/patient001_frame{frame:02d}{end}.nii.gz", b"")
    text = "ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
    return [write(folder / "patient001/Info.cfg", text)]


def make_declared(folder):
    for name in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"):
        write(folder / name, b"")
    content = {"name": "x", "channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumor": 2}}
    training = [{"image": "./imagesTr/a_0000.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    return [write(folder / "dataset.json", json.dumps({**content, "file_ending": ".nii.gz", "training": training}))]


def read_declared(path):
    content, _, channels = read_declaration(path.parent)
    decathlon.find_cases(path.parent, content.get("training"))
    nnunet.find_cases(path.parent, ".nii.gz", channels[:1])


# --- images ----------------------------------------------------------------------------------------------------------


def make_nifti(folder):
    plain = nibabel.Nifti1Image(pixels(9, 8, 3), np.diag([1.5, 1.5, 8, 1]))
    second = nibabel.Nifti2Image(pixels(9, 8, 3).astype(np.float32), np.eye(4))
    found = [write(folder / "a.nii", plain.to_bytes()), write(folder / "b.nii", second.to_bytes())]
    found.append(write(folder / "c.nii.gz", gzip.compress(plain.to_bytes())))
    nibabel.save(nibabel.Nifti1Pair(pixels(9, 8, 3), np.eye(4)), folder / "d.hdr")
    nibabel.save(nibabel.Spm99AnalyzeImage(pixels(9, 8, 3).astype(np.int16), np.eye(4)), folder / "e.hdr")
    return [*found, folder / "d.hdr", folder / "e.hdr"]


def make_itk(folder, suffixes):
    import SimpleITK

    image = SimpleITK.GetImageFromArray(pixels(3, 8, 9))
    image.SetSpacing((1.5, 1.5, 8))
    found = []
    for suffix in suffixes:
        for packed in (False, True):
            path = folder / f"{'packed' if packed else 'plain'}{suffix}"
            SimpleITK.WriteImage(image, str(path), useCompression=packed)
            found.append(path)
    return found


def make_pictures(folder, suffix):
    modes = {"L": np.uint8, "I;16": np.uint16, "RGB": np.uint8}
    found = []
    for mode, kind in modes.items():
        values = pixels(9, 8, *((3,) if mode == "RGB" else ())).astype(kind)
        options = [{}] if suffix == ".png" else [{}, {"compression": "tiff_deflate"}, {"compression": "tiff_lzw"}]
        for number, option in enumerate(options):
            path = folder / f"{mode.replace(';', '')}{number}{suffix}"
            Image.fromarray(values).save(path, **option)
            found.append(path)
    if suffix == ".tif":
        pages = [Image.fromarray(pixels(9, 8, seed=seed)) for seed in range(3)]
        pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
        found.append(folder / "pages.tif")
    return found


def _dicom(folder, name, **changes):
    import pydicom

    content = pydicom.Dataset()
    content.file_meta = pydicom.dataset.FileMetaDataset()
    content.file_meta.TransferSyntaxUID = changes.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
    content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID = f"1.2.3.{len(name)}.{ord(name[0])}"
    content.StudyInstanceUID, content.SeriesInstanceUID, content.FrameOfReferenceUID = "1.2.4", "1.2.5", "1.2.6"
    content.PatientName, content.PatientID, content.Modality = "Zimmermann^Erika", "ID4711", "MR"
    content.Rows, content.Columns, content.InstanceNumber = 8, 9, 1
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated, content.BitsStored, content.HighBit, content.PixelRepresentation = 16, 12, 11, 0
    content.PixelSpacing, content.ImageOrientationPatient = [1.5, 1.5], [1, 0, 0, 0, 1, 0]
    content.ImagePositionPatient, content.WindowCenter, content.WindowWidth = [0, 0, 0], 2048, 4096
    content.RescaleSlope, content.RescaleIntercept = 1, 0
    content.PixelData = pixels(8, 9).tobytes()
    for key, value in changes.items():
        setattr(content, key, value)
    stream = BytesIO()
    pydicom.dcmwrite(stream, content, enforce_file_format=True)
    return write(folder / name, stream.getvalue())


def make_dicom(folder):
    import pydicom

    found = [_dicom(folder, "a.dcm"), _dicom(folder, "b.dcm", ImagePositionPatient=[0, 0, 8], InstanceNumber=2)]
    found.append(_dicom(folder, "c", syntax=pydicom.uid.ImplicitVRLittleEndian, SeriesInstanceUID="1.2.7"))
    syntax = pydicom.uid.DeflatedExplicitVRLittleEndian
    return [*found, _dicom(folder, "d.dcm", syntax=syntax, SeriesInstanceUID="1.2.8")]


def read_images(path):
    """Read every case of the folder as ``predict`` does, and the damaged file by itself."""
    for given, out in ((path, "out"), (path.parent, "more")):
        left_out = LeftOut()
        with Unpacker(path.parent / out, left_out) as unpacker:
            for case in inputs.find_cases([str(given)], path.parent / out, left_out=left_out, unpack=unpacker.unpack):
                if path in case.files or path.suffix == ".zip":
                    inputs.read_case(case, force=True)


def make_zip(folder):
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.nii", nibabel.Nifti1Image(pixels(9, 8, 3), np.eye(4)).to_bytes())
        archive.writestr("a/notes.txt", "x")
    write(folder / "b.nii", nibabel.Nifti1Image(pixels(9, 8, 3), np.eye(4)).to_bytes())
    return [write(folder / "a.zip", stream.getvalue())]


# --- configurations and studies --------------------------------------------------------------------------------------


def make_configuration(folder):
    import yaml

    content = json.loads((BUNDLES / "jsrt_small.json").read_text())
    found = [write(folder / "a.json", json.dumps(content)), write(folder / "b.yaml", yaml.safe_dump(content))]
    return [*found, write(folder / "c.yaml", (BUNDLES / "chest_example.yaml").read_bytes())]


def read_configuration(path):
    """Check a configuration as far as no expression in it is evaluated: a configuration is code."""
    config = merge_config([str(path)])
    check_entry_point(config, "run")
    parser = ConfigParser(config)
    check_keys(config)
    check_nested_keys(config, parser.locator)
    check_references(parser)
    check_expressions(parser)
    plain = {key: value for key, value in config.items() if not (isinstance(value, str) and value[:1] in ("$", "@"))}
    check_values(ConfigParser(plain))


def make_study(folder):
    import yaml

    found = []
    for name in ("table1", "reliance"):
        content = json.loads((BUNDLES / f"studies/{name}.json").read_text())
        found.append(write(folder / f"{name}.json", json.dumps(content)))
        found.append(write(folder / f"{name}.yaml", yaml.safe_dump(content)))
    return found


def read_study(path):
    return declaration.load(BUNDLES / "studies", str(path), "small", seeds=[1])


# --- run folders -----------------------------------------------------------------------------------------------------


def make_run(folder):
    columns = "case,subject,split,degradation,severity,shift,organ,dice,iou,sensitivity,precision,hd95_mm,assd_mm"
    rows = [f"p{n},p{n},test,none,0,0,heart,0.{n}1,0.5,0.5,0.5,1.5,inf" for n in range(4)]
    pixels = [f"none,0,0,{true},{found},9" for true in ("background", "heart") for found in ("background", "heart")]
    scores = [f"p{n},p{n},test,none,0,0,heart,0.1,0.2,0.0{n},1.5,{n % 2},0.5,0.9" for n in range(4)]
    points = [f"none,0,0,heart,0.{n},0.{n + 1},{n},0.{n}5,{'nan' if n == 0 else 0.5}" for n in range(9)]
    about = {"bundle": "x", "data": "x", "phantom": True, "split": "test", "conditions": []}
    columns_of = {"predicted_dice.csv": PREDICTED_COLUMNS, "temperature_scaling.csv": SCALING_COLUMNS}
    values = {"predicted_dice.csv": "heart,all,0.5,0.7", "temperature_scaling.csv": "heart,one,0.1,0.2,0.1,1.5"}
    starts = {"predicted_dice.csv": "p{n},p{n},test,none,0,0", "temperature_scaling.csv": "none,{n},0"}
    tables = {
        name: "\n".join([",".join(names), *(f"{starts[name].format(n=n)},{values[name]}" for n in range(4)), ""])
        for name, names in columns_of.items()
    }
    contents = {
        **tables,
        "calibration.csv": "\n".join(
            [
                "case,subject,split,degradation,severity,shift,organ,ece,mce,brier,nll,coverage,width,expected_dice",
                *scores,
                "",
            ]
        ),
        "reliability.csv": "\n".join(
            ["degradation,severity,shift,organ,low,high,pixels,probability,frequency", *points, ""]
        ),
        "metrics.csv": "\n".join([columns, *rows, ""]),
        "confusion.csv": "\n".join(["degradation,severity,shift,true,predicted,pixels", *pixels, ""]),
        "summary.json": json.dumps(about),
        "environment.json": json.dumps([{"seed": 0, "packages": {"torch": "2.9"}, "device": {"type": "cpu"}}]),
        "config.json": json.dumps({"bundle_name": "x", "seed": 0}),
        "training_cases.csv": "case,subject,image_sha256\np9,p9,ab\n",
    }
    return [write(folder / name, text) for name, text in contents.items()]


def read_run(path):
    run = Run(path.parent)
    runs = sources.read([path.parent]).runs
    collect_confusions(runs)
    tabulate_calibration(collect_calibration(runs))
    draw_calibration(collect_reliability(runs))
    for rows, show in ((collect_scaling(runs), tabulate_scaling), (collect_predicted(runs), tabulate_predictors)):
        if not rows.empty:
            show(rows)
    read_csv(path.parent / "training_cases.csv")
    return run.config, run.summary, run.environments


def make_detectors(folder):
    draw = np.random.default_rng(0)
    samples = [
        Sample(*map(draw.random, (1, 32)), (draw.random(4),), *map(draw.random, ((1, 2), 1, 1, (LAYOUT, LAYOUT))))
        for _ in range(4)
    ]
    about = {"weights": "w", "organs": ["heart"], "layers": [0], "validation": 3, "training": 0}
    light = TrafficLight(about, samples, draw.random((3, 8)), draw.random((1, 4, 4)))
    save_arrays(folder / "detectors.npz", light.to_arrays())
    return [folder / "detectors.npz"]


def make_quality(folder):
    draw = np.random.default_rng(0)
    plausibility = Plausibility.fit(draw.random((4, 1, len(FEATURES))))
    rows = [
        Example({"probabilities": draw.random(1), "plausibility": draw.random(1)}, draw.random(1)) for _ in range(9)
    ]
    fit = Fit.make({"members": [], "tta": "", "dropout": 0}, {"validation": 9}, ["heart"], rows)
    predictor = DicePredictor("w", ["heart"], plausibility, draw.random((1, 4, 4)), [fit])
    save_arrays(folder / "quality.npz", predictor.to_arrays())
    return [folder / "quality.npz"]


def make_temperatures(folder):
    about = {"weights": "w", "one": [1.5], "class": [1.5, 0.5], "cases": 3, "pixels": 9}
    return [write(folder / "temperatures.json", json.dumps(about))]


def read_temperatures(path):
    """Read them as a prediction does, for a network of two classes."""
    stored = Stored()
    labels = (Label(0, "background", "#000000"), Label(1, "heart", "#ff0000"))
    stored.run, stored.home, stored.identity = path.parent, path.parent, "w"
    stored.data = SimpleNamespace(labels=labels)
    return [stored.find_temperatures(kind) for kind in KINDS]


def make_weights(folder):
    stream = BytesIO()
    torch.save({"network": {"a.weight": torch.ones(2, 3)}, "epoch": 3, "best_metric": 0.5}, stream)
    return [write(folder / "resume.pt", stream.getvalue())]


TARGETS = {
    target.name: target
    for target in [
        Target("dataset.json", make_prepared, read_prepared),
        Target("data.json", make_training_data, TrainingData.read),
        Target("Info.cfg", make_acdc, lambda path: acdc.find_cases(path.parents[1])),
        Target("nnU-Net and Decathlon", make_declared, read_declared),
        Target("NIfTI and Analyze", make_nifti, read_images),
        Target("NRRD", lambda folder: make_itk(folder, [".nrrd", ".nhdr"]), read_images),
        Target("MetaImage", lambda folder: make_itk(folder, [".mha", ".mhd"]), read_images),
        Target("PNG", lambda folder: make_pictures(folder, ".png"), read_images),
        Target("TIFF", lambda folder: make_pictures(folder, ".tif"), read_images),
        Target("DICOM", make_dicom, read_images),
        Target("ZIP", make_zip, read_images),
        Target("configuration", make_configuration, read_configuration),
        Target("study", make_study, read_study),
        Target("run folder", make_run, read_run),
        Target("detectors", make_detectors, TrafficLight.read),
        Target("quality", make_quality, DicePredictor.read),
        Target("temperatures", make_temperatures, read_temperatures),
        Target("weights", make_weights, checkpoints.load),
    ]
}
for name in ("pydicom", "nibabel.global"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
