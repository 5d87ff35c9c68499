"""Refuse unusable inputs in one line with file, reason and remedy; leave no patient in any file."""

import gzip
import json
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from images import dicom, directory, save
from PIL import Image
from running import ENVIRONMENT

from medpos.core.errors import InputError
from medpos.core.labels import ACDC, JSRT
from medpos.io import readers
from medpos.predict import inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.predict.views import mirror_classes

GRAY = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.int16)


def nifti(path, values=GRAY, affine=None, **header):
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2, 2, 1]) if affine is None else affine)
    nibabel.save(image, path)
    if header:
        raw = bytearray(path.read_bytes())
        own = nibabel.Nifti1Header(bytes(raw[:348]), check=False)
        for key, value in header.items():
            own[key] = value
        raw[:348] = own.binaryblock
        path.write_bytes(bytes(raw))
    return path


def picture(path, values):
    Image.fromarray(values).save(path)
    return path


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def text(path, content="nothing"):
    path.write_text(content)
    return path


RGB = np.dstack([GRAY // 16, GRAY // 32, GRAY // 64]).astype(np.uint8)
BAD = {
    "truncated nifti": (lambda d: cut(nifti(d / "a.nii.gz", np.random.default_rng(0).normal(size=(64, 64)))), "again"),
    "no nifti": (lambda d: text(d / "a.nii"), "export it again"),
    "no gzip": (lambda d: text(d / "a.nii.gz"), "copy it again"),
    "4-D": (lambda d: nifti(d / "a.nii.gz", np.zeros((8, 8, 8, 3), np.int16)), "a file of its own"),
    "NaN": (lambda d: nifti(d / "a.nii.gz", np.where(GRAY > 9, GRAY, np.nan)), "without them"),
    "NaN spacing": (lambda d: nifti(d / "a.nii", pixdim=[1, np.nan, 1, 1, 1, 1, 1, 1]), "correct pixdim"),
    "flat affine": (lambda d: nifti(d / "a.nii", srow_z=[0, 0, 0, 0]), "correct sform"),
    "label map": (lambda d: nifti(d / "a.nii.gz", (GRAY // 1400).astype(np.uint8)), "--force"),
    "empty image": (lambda d: nifti(d / "a.nii.gz", GRAY * 0), "export it again"),
    "20,000 x 20,000": (lambda d: nifti(d / "a.nii", GRAY, dim=[2, 20000, 20000, 1, 1, 1, 1, 1]), "crop"),
    "huge picture": (lambda d: picture(d / "a.png", np.zeros((20000, 20000), bool)), "crop"),
    "truncated png": (lambda d: cut(picture(d / "a.png", GRAY.astype(np.uint16))), "export it again"),
    "colour": (lambda d: picture(d / "a.png", RGB), "convert it"),
    "short img": (lambda d: text(d / "a.img"), "unpack it again"),
    "no dicom": (lambda d: text(d / "a.dcm"), "export it again"),
    "dicom without pixels": (lambda d: save(dicom(GRAY, PixelData=None), d / "a.dcm"), "give the image itself"),
    "truncated dicom": (lambda d: cut(save(dicom(GRAY), d / "a.dcm"), 0.9), "copy it again"),
    "ultrasound": (lambda d: save(dicom(GRAY, Modality="US"), d / "a.dcm"), "--force"),
    "colour dicom": (lambda d: save(dicom(GRAY, PhotometricInterpretation="RGB"), d / "a.dcm"), "convert it"),
    "frames": (lambda d: save(dicom(GRAY, NumberOfFrames=3), d / "a.dcm"), "split it"),
    "huge dicom": (lambda d: save(dicom(GRAY, Rows=20000, Columns=20000), d / "a.dcm"), "crop"),
    "zero spacing dicom": (lambda d: save(dicom(GRAY, PixelSpacing=[0, 0]), d / "a.dcm"), "correct the header"),
    "volume": (lambda d: nifti(d / "a.nii.gz", np.dstack([GRAY, GRAY])), "one by one"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_file_is_named_and_the_others_are_done(chest, predict, tmp_path, kind):
    make, remedy = BAD[kind]
    folder = tmp_path / "in"
    folder.mkdir()
    bad, good = make(folder), nifti(folder / "z.nii.gz")
    summary, out = predict(chest, folder, overlays=False)
    assert (summary.done, len(summary.failed)) == (1, 1), summary
    assert (out / good.name).is_file()
    line = summary.failed[0]
    assert line.startswith("file 1 of the input: ") if bad.suffix == ".dcm" else str(bad) in line
    assert remedy in line
    assert "\n" not in line
    assert "Zimmermann" not in line
    assert (out / "failed.txt").read_text() == f"{line}\n"


@pytest.mark.parametrize("kind", ["label map", "ultrasound", "colour"])
def test_force_takes_what_only_looks_wrong(chest, predict, tmp_path, kind):
    summary, _ = predict(chest, BAD[kind][0](tmp_path), force=True, overlays=False)
    assert (summary.done, summary.failed) == (1, [])


def test_inputs_that_are_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    text(tmp_path / "a.doc")
    for given, message in (
        ("empty", "expected at least one image (NIfTI, "),
        ("none", "expected a file or folder, got nothing at this path; check it"),
        ("*.nii", "expected at least one image (NIfTI"),
        ("a.doc", "expected NIfTI, NRRD"),
    ):
        with pytest.raises(InputError) as error:
            inputs.find_cases([str(tmp_path / given)], tmp_path / "out")
        assert f"{tmp_path / given}: {message}" in str(error.value)


@pytest.mark.parametrize(("given", "out"), [("images", "images"), ("images", "."), ("images/part", "images")])
def test_images_inside_the_folder_of_results_are_not_called_missing(tmp_path, given, out):
    (tmp_path / "images/part").mkdir(parents=True)
    nifti(tmp_path / "images/part/a.nii")
    with pytest.raises(InputError, match=r"outside the folder of the results, got --out .*; choose another --out"):
        inputs.find_cases([str(tmp_path / given)], tmp_path / out)


def test_a_list_stays_in_its_folder(tmp_path):
    (tmp_path / "set/sub").mkdir(parents=True)
    nifti(tmp_path / "secret.nii")
    nifti(tmp_path / "set/sub/a.nii")
    (tmp_path / "set/link.nii").symlink_to(tmp_path / "secret.nii")
    cases = text(tmp_path / "set/cases.txt", "# mine\nsub/a.nii\n")
    assert [source.name for source in inputs.find_cases([str(cases)], tmp_path / "out")] == ["a"]
    for line in ("../secret.nii", str(tmp_path / "secret.nii"), "link.nii"):
        with pytest.raises(InputError, match=r"line 1: expected a path inside the list's folder"):
            inputs.find_cases([str(text(cases, line))], tmp_path / "out")
    with pytest.raises(InputError, match="expected an image file"):
        inputs.find_cases([str(text(cases, "b.nii"))], tmp_path / "out")


def test_names_are_unique_and_results_are_not_read(tmp_path):
    for name in ("a/x.nii", "b/x.nii", "b/x.png", "b/y z.nii", "out/r.nii", ".hidden/h.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text(tmp_path / name)
    found = inputs.find_cases([str(tmp_path), str(tmp_path / "a/*.nii")], tmp_path / "out")
    assert [source.name for source in found] == ["a-x", "b-x", "b-x-2", "y-z"]


def test_phases_are_known_by_their_name(tmp_path):
    for name in ("p1_ED", "p1_frame01", "p1_phase02", "STUDIED", "p_1"):
        text(tmp_path / f"{name}.nii")
    found = {
        source.name: inputs.split_phase(source.name) for source in inputs.find_cases([str(tmp_path)], tmp_path / "out")
    }
    assert found["p1_ED"] == ("p1", "ED")
    assert found["p1_frame01"] == ("p1", "frame01")
    assert found["STUDIED"] == ("STUDIED", "")
    assert found["p_1"] == ("p_1", "")


def test_no_patient_in_any_file(chest, predict, tmp_path):
    save(dicom(GRAY), tmp_path / "Zimmermann/scan.dcm")
    save(dicom(GRAY), tmp_path / "Zimmermann/erika_zimmermann.dcm")
    save(dicom(GRAY, PixelData=None), tmp_path / "Zimmermann/none.dcm")
    image = nibabel.Nifti1Image(GRAY[..., None], np.eye(4))
    image.header["descrip"] = b"Zimmermann"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Zimmermann"))
    nibabel.save(image, tmp_path / "n.nii.gz")
    summary, out = predict(chest, tmp_path / "Zimmermann", tmp_path / "n.nii.gz", probabilities=True)
    assert (summary.done, len(summary.failed)) == (3, 1)
    for path in [p for p in out.rglob("*") if p.is_file() and p.suffix != ".dcm"]:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for word in (b"zimmermann", b"erika", b"id4711", b"19500101"):
            assert word not in content.lower(), path
            assert word not in path.name.encode().lower()


PEOPLE = {  # folder, name and number in the header; words that may stand nowhere
    "short": ("Li_Wu", "Li^Wu", "Q7", ("li_wu", "li-wu")),
    "transcribed": ("Mueller_Juergen", "M\u00fcller^J\u00fcrgen", "MRN-31", ("mueller", "juergen", "m\u00fcller")),
    "part of a word": ("scanTanakaHead", "Tanaka^Aiko", "T9", ("tanaka", "aiko")),
    "reversed": ("erika-ZIMMERMANN", "Zimmermann^Erika", "0", ("zimmermann", "erika")),
    "ideographic": ("\u5c71\u7530\u592a\u90ce", "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", "1", ("\u5c71", "yamada")),
    "number": ("PAT-887766", "Anon^One", "887766", ("887766",)),
    "institution": ("StVincent", "Anon^Two", "2", ("vincent",)),
}


def people(folder, person, file="IM0001"):
    place, name, number, words = PEOPLE[person]
    charset = "ISO_IR 192"
    private = {"InstitutionName": "St. Vincent", "AccessionNumber": "ACC5566", "SpecificCharacterSet": charset}
    for sub in ("a", "b"):
        save(dicom(GRAY, PatientName=name, PatientID=number, **private), folder / place / sub / f"{file}.dcm")
    save(dicom(GRAY, PatientName=name, PixelSpacing="1.5", **private), folder / place / f"{place}.dcm")
    return (*words, "acc5566", "vincent", "19500101", "im0001")


@pytest.mark.parametrize("person", PEOPLE)
def test_no_word_of_a_person_leaves_the_command(chest, predict, tmp_path, caplog, person):
    words = people(tmp_path / "in", person)
    caplog.set_level("DEBUG")
    summary, out = predict(chest, tmp_path / "in")
    assert (summary.done, len(summary.failed)) == (2, 1)
    assert "Pixel Spacing" in summary.failed[0]
    texts = [caplog.text, *summary.failed, *(str(path.relative_to(out)) for path in out.rglob("*"))]
    texts += [
        path.read_bytes().decode("utf-8", "ignore")
        for path in out.rglob("*")
        if path.suffix in (".csv", ".json", ".txt")
    ]
    for text_ in texts:
        for word in words:
            assert word not in text_.lower()
    for path in out.glob("*.dcm"):  # the patient module of a SEG is that of its source; nothing else names the person
        content = pydicom.dcmread(path)
        for key in ("SeriesDescription", "InstitutionName", "ContentLabel", "ContentDescription"):
            assert not any(word in str(content.get(key, "")).lower() for word in words)
        assert path.stem.startswith("case-")
    assert not (out / "names.csv").exists()


def test_names_are_kept_on_demand_with_a_table_that_leads_back(chest_run, tmp_path):
    people(tmp_path / "in", "reversed")
    directory(tmp_path / "in/DICOMDIR")
    command = [sys.executable, "-m", "medpos", "predict", str(chest_run), "in", "--out", "out", "--keep-names"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 3, done.stderr
    assert "left out: DICOMDIR, the index of a medium: 1" in done.stderr
    assert "failed: in/erika-ZIMMERMANN/erika-ZIMMERMANN.dcm: expected 2 numbers" in done.stderr
    rows = dict(line.split(",") for line in (tmp_path / "out/names.csv").read_text().split())
    assert rows["a-IM0001"] == "in/erika-ZIMMERMANN/a/IM0001.dcm"
    assert (tmp_path / "out/b-IM0001.dcm").is_file()


def test_no_patient_in_the_log(chest_run, tmp_path):
    """Check the output of the command and of the libraries, which quote invalid headers."""
    save(dicom(GRAY), tmp_path / "in/erika.dcm")
    odd = dicom(GRAY, PatientBirthDate="Zimmermann was born in May")
    odd.add_new(0x00101010, "AS", "Zimmermann")
    save(odd, tmp_path / "in/odd.dcm")
    cut(save(dicom(GRAY), tmp_path / "in/cut.dcm"), 0.9)
    save(dicom(GRAY, BitsStored=99), tmp_path / "in/bits.dcm")
    environment = {**ENVIRONMENT, "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-m", "medpos", "predict", str(chest_run), "in", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 3, done.stderr
    for number in (1, 2):  # bits.dcm and cut.dcm
        assert f"failed: file {number} of the input: " in done.stderr
    for word in ("zimmermann", "erika", "id4711", "19500101", "traceback"):
        assert word not in (done.stdout + done.stderr).lower()


def test_a_bundle_whose_data_leave_their_folder_is_refused(chest_run, data, tmp_path):
    """Read the data folder of a run without data.json, but no file outside of it."""
    folder = shutil.copytree(chest_run, tmp_path / "run")
    (folder / "data.json").unlink()
    content = json.loads((data / "dataset.json").read_text())
    content["training"][0]["image"] = "../secret.nii.gz"
    (data / "dataset.json").write_text(json.dumps(content))
    nifti(tmp_path / "secret.nii.gz")
    with pytest.raises(InputError, match=r"expected image inside the data folder, got '../secret.nii.gz'"):
        Model(folder, data)


def test_bad_runs(chest_run, tmp_path):
    def spoilt(name, **changes):
        folder = shutil.copytree(chest_run, tmp_path / name, ignore=shutil.ignore_patterns("tensorboard"))
        for file, content in changes.items():
            path = folder / file.replace("_", ".")
            path.unlink() if content is None else path.write_text(content)
        return folder

    newer = json.loads((chest_run / "environment.json").read_text())[-1]
    newer["packages"]["medpos"] = "9.0.0"
    config = {**json.loads((chest_run / "config.json").read_text()), "data_folder": "/gone"}
    for folder, message in (
        (tmp_path, "expected a run folder"),
        (spoilt("weightless", model_pt=None), "expected model.pt, got none"),
        (spoilt("newer", environment_json=json.dumps(newer)), "got one of 9.0.0; pip install"),
        (spoilt("damaged", data_json="{}"), "is damaged"),
        (spoilt("dataless", data_json=None, config_json=json.dumps(config)), "--dataset-dir"),
        (spoilt("garbled", config_json="{"), "JSON"),
        (spoilt("other", config_json="{}"), "got a file without network_def"),
        (spoilt("cut", model_pt=""), "truncated or not a checkpoint"),
    ):
        with pytest.raises(InputError, match=message):
            Model(folder)


def test_weights_run_no_code(chest_run, tmp_path):
    folder = shutil.copytree(chest_run, tmp_path / "run")
    torch.save({"weight": subprocess.Popen}, folder / "model.pt")
    with pytest.raises(InputError, match="could run code"):
        Model(folder)


def test_a_run_without_its_description_reads_its_data(chest, chest_run, prepared, tmp_path):
    folder = shutil.copytree(chest_run, tmp_path / "run")
    (folder / "data.json").unlink()
    assert Model(folder).data == chest.models[0].data
    assert Model(folder, prepared["jsrt"]).data == chest.models[0].data
    with pytest.raises(InputError, match=r"got another dataset\.json"):
        Model(folder, prepared["acdc"])


def test_ensembles_and_mirrors(chest, heart):
    assert mirror_classes(JSRT) == (0, 2, 1, 3)
    assert mirror_classes(ACDC) == (0, 1, 2, 3)
    with pytest.raises(InputError, match="expected a class left_lung opposite to right_lung"):
        mirror_classes(JSRT[:2])
    with pytest.raises(InputError, match=r"expected labels .*, got "):
        Ensemble([chest.models[0], heart.models[0]])
    image = chest.decode(np.array(GRAY[..., None], np.float32))
    one, flipped = chest.models[0], Ensemble(chest.models, tta=("flip",))
    there, back = one.probabilities(image[0]), one.probabilities(image[0].flip(1)).flip(1)
    assert torch.allclose(flipped.probabilities(image), (there + back[[0, 2, 1, 3]]) / 2)
    assert torch.allclose(Ensemble([one, one]).probabilities(image * 2), there)


def test_output_that_cannot_be_written(chest, heart, predict, xray, tmp_path):
    place = text(tmp_path / "file")
    with pytest.raises(InputError, match=r"can't be created or written .*choose another --out"):
        predict(chest, xray[0], out=place / "out")
    predict(chest, xray[0])
    for other in ({"probabilities": True}, {"window": (0, 100)}):
        with pytest.raises(InputError, match=r"expected no --\w+, as for the predictions there, got --"):
            predict(chest, xray[0], **other)
    with pytest.raises(InputError, match=r"expected jsrt_small_pe/a \(weights"):
        predict(heart, xray[0])


def test_colour_without_colour_is_gray(tmp_path):
    path = picture(tmp_path / "a.png", np.dstack([GRAY // 16] * 3).astype(np.uint8))
    assert (readers.read_picture(path).values[..., 0] == GRAY.T // 16).all()


def test_command_line(chest_run, xray, tmp_path):
    text(tmp_path / "bad.nii")
    command = [sys.executable, "-m", "medpos", "predict", str(chest_run), str(xray[0]), str(tmp_path)]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 3, done.stderr
    assert f"failed: {tmp_path / 'bad.nii'}" in done.stderr
    assert "1 segmented, 0 kept from before, 1 failed" in done.stderr
    assert "Traceback" not in done.stderr
    for options in (["--tta", "turn"], ["--window", "1"], ["--window", "3,3"], ["--spacing", "0,1"]):
        from typer.testing import CliRunner

        from medpos.__main__ import app

        with pytest.raises(InputError, match=options[0]):
            CliRunner().invoke(app, [*command[3:], "--out", "x", *options], catch_exceptions=False)
