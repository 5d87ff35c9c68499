"""Read DICOM as hospitals have it: copies, phases, empty and malformed attributes, lost preambles, wrong bits."""

import shutil

import nibabel
import numpy as np
import pydicom
import pytest
from images import dicom, directory, enhanced, save, sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from medpos.core.errors import InputError
from medpos.core.labels import JSRT
from medpos.io import dicom as reader
from medpos.io import volumes
from medpos.io.targets import FORMATS, choose_target
from medpos.io.walk import LeftOut
from medpos.predict import inputs

GRAY = np.linspace(0, 4095, 20 * 24).reshape(20, 24).astype(np.uint16)
MR = "1.2.840.10008.5.1.4.1.1.4"


def slices(folder, count=4, phases=1, times=("TriggerTime",), **tags):
    """Write the slices of an MR series, with times that tell its phases apart."""
    common = {key: generate_uid() for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    paths = []
    for phase in range(phases):
        for z in range(count):
            moment = dict.fromkeys(times, 40 * phase + 1) if phases > 1 else {}
            content = dicom(
                GRAY // 2 + 50 * z + 7 * phase,
                Modality="MR",
                SOPClassUID=MR,
                PositionReferenceIndicator="",
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                ImagePositionPatient=[0, 0, 8.0 * z],
                InstanceNumber=phase * count + z + 1,
                **{**common, **moment, **tags},
            )
            content.file_meta.MediaStorageSOPClassUID = MR
            paths.append(save(content, folder / f"IM{phase}{z:02d}"))
    return paths


def spoil(path, before, after):
    """Replace bytes of a file by as many others, which pydicom would not write."""
    assert len(before) == len(after)
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after))
    return path


def find(folder, **options):
    return inputs.find_cases([str(folder)], folder / "out", **options)


def renamed(folder, paths):
    for path in paths:
        shutil.copy(path, path.with_name(f"{path.name} (1).dcm"))


def in_another_folder(folder, paths):
    shutil.copytree(folder, folder / "export/second")


def one_only(folder, paths):
    shutil.copy(paths[2], folder / "zz.dcm")


def three_times(folder, paths):
    in_another_folder(folder, paths)
    shutil.copytree(folder / "export/second", folder / "third")


def compressed(folder, paths):
    for path in paths:
        content = pydicom.dcmread(path)
        content.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        content.save_as(path.with_name(f"{path.name}-rle.dcm"))


@pytest.mark.parametrize("copy", [renamed, in_another_folder, one_only, three_times, compressed])
@pytest.mark.parametrize("phases", [1, 2])
def test_copies_of_an_instance_are_one_slice(tmp_path, copy, phases):
    paths = slices(tmp_path / "in", phases=phases)
    before = [inputs.read_case(case).values for case in find(tmp_path / "in")]
    copy(tmp_path / "in", paths)
    cases = find(tmp_path / "in")
    assert len(cases) == phases
    for case, values in zip(cases, before, strict=True):
        assert np.array_equal(inputs.read_case(case).values, values)
        assert "copies of the same SOP instances left out" in case.notes[0]


def test_a_copied_xray_is_one_case(tmp_path):
    path = save(dicom(GRAY), tmp_path / "in/a.dcm")
    shutil.copy(path, tmp_path / "in/b.dcm")
    assert len(find(tmp_path / "in")) == 1


@pytest.mark.parametrize("key", ["TriggerTime", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase"])
def test_phases_are_told_apart_by_their_times(tmp_path, key):
    slices(tmp_path, phases=3, times=(key,))
    cases = find(tmp_path)
    assert [case.name[-8:] for case in cases] == ["_phase01", "_phase02", "_phase03"]
    for phase, case in enumerate(cases):
        assert inputs.read_case(case).values[0, 0].tolist() == [50 * z + 7 * phase for z in range(4)]


def test_slices_twice_without_times_are_no_phases(tmp_path):
    slices(tmp_path, phases=2, times=())
    [case] = find(tmp_path)
    with pytest.raises(InputError, match="file 1 of the input: expected one slice at each position, or times"):
        inputs.read_case(case)


def test_equal_slices_with_new_uids_are_left_out(tmp_path):
    paths = slices(tmp_path)
    for path in paths:
        content = pydicom.dcmread(path)
        content.SOPInstanceUID = content.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        content.save_as(path.with_name(f"{path.name}new"))
    [case] = find(tmp_path)
    scan = inputs.read_case(case)
    assert scan.values.shape == (24, 20, 4)
    assert scan.notes == ["equal slices at one position left out: 4 of 8"]


def test_different_slices_of_one_uid_are_kept(tmp_path):
    uid = generate_uid()
    slices(tmp_path, SOPInstanceUID=uid)
    [case] = find(tmp_path)
    assert inputs.read_case(case).values.shape == (24, 20, 4)


EMPTY = (
    "ImageOrientationPatient ImagePositionPatient PatientOrientation ImagerPixelSpacing RescaleSlope RescaleIntercept "
    "RescaleType WindowCenter WindowWidth NumberOfFrames SliceThickness SpacingBetweenSlices SeriesNumber "
    "InstanceNumber PatientName PixelPaddingValue EstimatedRadiographicMagnificationFactor VOILUTSequence "
    "LossyImageCompression SeriesInstanceUID Modality TriggerTime"
)


@pytest.mark.parametrize("key", EMPTY.split())
def test_an_empty_attribute_is_an_absent_one(tmp_path, key):
    content = dicom(GRAY)
    setattr(content, key, [] if key.endswith("Sequence") else "")
    save(content, tmp_path / "a.dcm")
    [case] = find(tmp_path)
    scan = inputs.read_case(case, ("CR",))
    assert (scan.values[..., 0].T == GRAY).all()
    assert scan.spacing_mm == (2.8, 2.8, 1.0)
    assert scan.gray_range == (0, 4095)


@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "SharedFunctionalGroupsSequence"])
def test_an_empty_sequence_is_an_absent_one(tmp_path, sequence):
    save(dicom(GRAY, **{sequence: []}), tmp_path / "a.dcm")
    assert (inputs.read_case(find(tmp_path)[0]).values[..., 0].T == GRAY).all()


ODD = {
    "comma in the spacing": ({"PixelSpacing": [1.7, 1.7]}, (b"1.7\\1.7 ", b"1,7\\1,7 "), "PixelSpacing"),
    "three spacings": ({"PixelSpacing": [1.7, 1.7, 1.7]}, None, "PixelSpacing"),
    "one spacing": ({"PixelSpacing": "1.7"}, None, "PixelSpacing"),
    "negative spacing": ({"PixelSpacing": [-1.7, 1.7]}, None, "PixelSpacing"),
    "word in the slope": ({"RescaleSlope": "1.25"}, (b"1.25", b"one "), "RescaleSlope"),
    "two slopes": ({"RescaleSlope": [1, 2]}, None, "RescaleSlope"),
    "comma in the intercept": ({"RescaleIntercept": "-9.5"}, (b"-9.5", b"-9,5"), "RescaleIntercept"),
    "five cosines": ({"ImageOrientationPatient": [1, 0, 0, 0, 1]}, None, "ImageOrientationPatient"),
    "zero cosines": ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, None, "ImageOrientationPatient"),
    "two coordinates": (
        {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [4.25, 7.5]},
        None,
        "ImagePositionPatient",
    ),
    "no number in the thickness": ({"SliceThickness": "8.25"}, (b"8.25", b"8 mm"), "SliceThickness"),
    "no number of frames": ({"NumberOfFrames": "1234"}, (b"1234", b"one "), "NumberOfFrames"),
    "a table without data": ({"ModalityLUTSequence": [pydicom.Dataset()]}, None, "ModalityLUTSequence"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_malformed_attribute_is_named(tmp_path, kind):
    tags, bytes_, key = ODD[kind]
    path = save(dicom(GRAY, **tags), tmp_path / "Zimmermann.dcm")
    if bytes_:
        spoil(path, *bytes_)
    save(dicom(GRAY), tmp_path / "a.dcm")
    with pytest.raises(InputError, match=rf"^file 1 of the input: expected .*{key}") as error:
        inputs.read_case(find(tmp_path)[0])
    assert "Zimmermann" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_malformed_position_fails_its_series_as_a_whole(tmp_path):
    paths = slices(tmp_path)
    spoil(paths[1], b"\\8.0", b"\\8,0")
    [case] = find(tmp_path)
    with pytest.raises(InputError, match=r"file 2 of the input: .*ImagePositionPatient"):
        inputs.read_case(case)


GONE = {
    "no study identification": (["StudyID", "AccessionNumber", "StudyDate", "StudyTime"], ".dcm", ""),
    "no person": (["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"], ".dcm", ""),
    "no numbers": (["SeriesNumber", "InstanceNumber"], ".dcm", ""),
    "no SOP Instance UID": (["SOPInstanceUID"], ".nii.gz", "the source has no SOPInstanceUID"),
    "no class and study": (
        ["SOPClassUID", "StudyInstanceUID"],
        ".nii.gz",
        "the source has no SOPClassUID, StudyInstanceUID",
    ),
    "no series": (["SeriesInstanceUID"], ".nii.gz", "the source has no SeriesInstanceUID"),
    "no modality": (["Modality"], ".dcm", ""),
}


@pytest.mark.parametrize("kind", GONE)
def test_attributes_that_are_missing_cost_no_label_map(tmp_path, kind):
    keys, suffix, reason = GONE[kind]
    save(dicom(GRAY, **dict.fromkeys(keys)), tmp_path / "in/a.dcm")
    [case] = find(tmp_path / "in")
    scan = inputs.read_case(case, ("CR",))
    labels = (scan.values // 1400).astype(np.uint8)
    path = scan.target.write(tmp_path / "out/result", labels, JSRT)
    assert path.name == f"result{suffix}"
    assert [note for note in scan.notes if "SEG" in note] == ([f"no DICOM SEG, but NIfTI: {reason}"] if reason else [])
    if suffix == ".nii.gz":
        assert (np.asarray(nibabel.load(path).dataobj) == labels).all()


def test_a_series_without_frame_of_reference_gives_nifti(tmp_path):
    slices(tmp_path / "in", FrameOfReferenceUID="")
    scan = inputs.read_case(find(tmp_path / "in")[0])
    path = scan.target.write(tmp_path / "out/result", np.ones(scan.values.shape, np.uint8), JSRT)
    assert scan.notes == ["no DICOM SEG, but NIfTI: the source has no FrameOfReferenceUID"]
    assert nibabel.load(path).header.get_zooms() == pytest.approx((2.8, 2.8, 8))


def without_preamble(content, syntax, meta):
    """Return the bytes of a file without its preamble, or without its file meta information too."""
    content.file_meta.TransferSyntaxUID = syntax
    buffer = pydicom.filebase.DicomBytesIO()
    pydicom.dcmwrite(buffer, content, enforce_file_format=True)
    whole = buffer.getvalue()
    return whole[132:] if meta else whole[144 + int.from_bytes(whole[140:144], "little") :]


@pytest.mark.parametrize("name", ["a.dcm", "IM0001", "a.ima", "1.2.840"])
@pytest.mark.parametrize("kind", ["meta", "explicit", "implicit"])
def test_files_without_preamble_are_read(tmp_path, name, kind):
    syntax = ImplicitVRLittleEndian if kind == "implicit" else ExplicitVRLittleEndian
    data = without_preamble(dicom(GRAY), syntax, meta=kind == "meta")
    (tmp_path / name).write_bytes(data)
    [case] = find(tmp_path)
    scan = inputs.read_case(case)
    assert (scan.values[..., 0].T == GRAY).all()
    assert scan.target.write(tmp_path / "out/r", np.ones((24, 20, 1), np.uint8), JSRT).suffix == ".dcm"


@pytest.mark.parametrize(
    "content", [b"", b"\x08\0", b"nothing" * 40, b"\x08\0zz" + b"\0" * 200, b"\x08\0\x05\0\xff\xff\xff\xff"]
)
def test_what_begins_like_no_data_set_is_no_dicom(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert not reader.is_dicom(tmp_path / "a")


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir", "DICOMDIR.dcm", "sub/DICOMDIR"])
def test_the_index_of_a_medium_is_no_case(tmp_path, name):
    save(dicom(GRAY), tmp_path / "IM0")
    directory(tmp_path / name)
    left_out = LeftOut()
    assert len(find(tmp_path, left_out=left_out)) == 1
    assert left_out.describe() == ["DICOMDIR, the index of a medium: 1"]


def test_the_index_of_a_medium_alone_is_named(tmp_path):
    path = directory(tmp_path / "DICOMDIR")
    with pytest.raises(InputError, match=r"got only DICOM objects without an image \(DICOMDIR\)"):
        inputs.find_cases([str(path)], tmp_path / "out")


BITS = {
    "12 in 16": (GRAY, 16, {}, (0, 4095), "fewer bits"),
    "10 in 16": (GRAY // 4, 16, {}, (0, 1023), "fewer bits"),
    "14 in 16": (GRAY * 4, 16, {}, (0, 16383), "fewer bits"),
    "12 in 14": (GRAY, 14, {}, (0, 4095), "fewer bits"),
    "16 in 16": (GRAY * 16, 16, {}, (0, 65535), ""),
    "12 in 12": (GRAY, 12, {"WindowCenter": 1000, "WindowWidth": 2000}, (0, 4095), ""),
    "window of the values": (GRAY + 30000, 16, {"WindowCenter": 32048, "WindowWidth": 4096}, (30000, 34095), "window"),
    "two windows": (
        GRAY + 30000,
        16,
        {"WindowCenter": [32048, 9], "WindowWidth": [4096, 5]},
        (30000, 34095),
        "window",
    ),
    "exact window": (
        GRAY + 30000,
        16,
        {"WindowCenter": 32000, "WindowWidth": 4000, "VOILUTFunction": "LINEAR_EXACT"},
        (30000, 34000),
        "window",
    ),
    "window of other values": (GRAY + 30000, 16, {"WindowCenter": 40, "WindowWidth": 400}, (0, 65535), ""),
    "window of no width": (GRAY + 30000, 16, {"WindowCenter": 32048, "WindowWidth": 0}, (0, 65535), ""),
    "rescaled": (GRAY, 16, {"RescaleSlope": 2, "RescaleIntercept": -100}, (-100, 8090), "fewer bits"),
}


@pytest.mark.parametrize("dark", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("kind", BITS)
def test_black_and_white_are_those_of_the_values(tmp_path, kind, dark):
    rows, bits, tags, expected, note = BITS[kind]
    content = dicom(rows, BitsStored=bits, HighBit=bits - 1, PhotometricInterpretation=dark, **tags)
    save(content, tmp_path / "a.dcm")
    scan = inputs.read_case(find(tmp_path)[0])
    assert scan.gray_range == pytest.approx(expected)
    assert bool(scan.gray_notes) == bool(note)
    assert note in "".join(scan.gray_notes)
    values = rows * float(tags.get("RescaleSlope", 1)) + float(tags.get("RescaleIntercept", 0))
    bright = values if dark == "MONOCHROME2" else sum(expected) - values
    assert np.allclose(scan.values[..., 0].T, bright)


SIGNED = GRAY.astype(np.int16) - 2048


@pytest.mark.parametrize(
    ("rows", "bits", "slope", "expected"),
    [
        (SIGNED, 16, 1, (-2048, 2047)),
        (SIGNED, 16, -2, (-4094, 4096)),
        (SIGNED, 12, 1, (-2048, 2047)),
        (SIGNED // 16, 16, 1, (-128, 127)),
        (SIGNED * 3, 16, 1, (-8192, 8191)),
        (SIGNED * 16, 16, 1, (-32768, 32767)),
        (GRAY, 16, 1, (0, 4095)),
    ],
)
def test_black_and_white_of_signed_values(tmp_path, rows, bits, slope, expected):
    tags = {"PixelRepresentation": 1, "BitsStored": bits, "HighBit": bits - 1, "RescaleSlope": slope}
    save(dicom(rows.astype(np.int16).view(np.uint16), RescaleIntercept=0, **tags), tmp_path / "a.dcm")
    scan = inputs.read_case(find(tmp_path)[0])
    assert np.array_equal(scan.values[..., 0].T, rows * slope)
    assert scan.gray_range == expected
    assert bool(scan.gray_notes) == (expected[1] < 2 ** (bits - 1) - 1)


def test_slices_without_negative_values_belong_to_a_signed_series(tmp_path):
    paths = slices(tmp_path / "in", PixelRepresentation=1, BitsStored=16, HighBit=15)
    for path, rows in zip(paths, (np.maximum(SIGNED, 0), SIGNED, SIGNED, SIGNED), strict=True):
        content = pydicom.dcmread(path)
        content.PixelData = rows.tobytes()
        content.save_as(path)
    (case,) = inputs.find_cases([str(tmp_path / "in")], tmp_path / "out")
    assert inputs.read_case(case).gray_range == (-2048, 2047)


@pytest.mark.parametrize("dark", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_counts_for_nothing(tmp_path, dark):
    rows = GRAY // 2 + 100
    rows[:3] = 65535
    save(
        dicom(rows, BitsStored=16, HighBit=15, PixelPaddingValue=65535, PhotometricInterpretation=dark),
        tmp_path / "a.dcm",
    )
    scan = inputs.read_case(find(tmp_path)[0])
    assert scan.gray_range == (0, 4095)
    assert (scan.values[:, :3] == scan.values.min()).all()


@pytest.mark.parametrize(
    ("padding", "limit"), [(63536, None), (-2000, None), (63536, 63540), (-2000, -1996), (-2000, 63540)]
)
def test_padding_is_found_with_and_without_its_sign(tmp_path, padding, limit):
    rows = (GRAY // 2).astype(np.int16) - 500
    rows[:3] = -2000
    content = dicom(rows.view(np.uint16), PixelRepresentation=1, BitsStored=16, HighBit=15)
    for tag, value in ((0x00280120, padding), (0x00280121, limit)):
        if value is not None:
            content.add_new(tag, "US" if value > 0 else "SS", value)
    save(content, tmp_path / "a.dcm")
    scan = inputs.read_case(find(tmp_path)[0])
    assert (scan.values[:, :3] == rows[3:].min()).all()
    assert np.array_equal(scan.values[:, 3:, 0].T, rows[3:])


@pytest.mark.parametrize(
    ("kind", "shape", "is_dark", "is_odd"),
    [
        ("MONOCHROME2", "IDENTITY", False, False),
        ("MONOCHROME2", "", False, False),
        ("MONOCHROME2", "INVERSE", True, True),
        ("MONOCHROME1", "INVERSE", True, False),
        ("MONOCHROME1", "IDENTITY", True, True),
    ],
)
def test_the_shape_of_the_presentation_lut_inverts_once(tmp_path, kind, shape, is_dark, is_odd):
    rows = 4095 - GRAY if is_dark else GRAY
    save(dicom(rows, PhotometricInterpretation=kind, PresentationLUTShape=shape), tmp_path / "a.dcm")
    scan = inputs.read_case(find(tmp_path)[0])
    assert (scan.values[..., 0].T == GRAY).all()
    assert any("disagree" in note for note in scan.notes) == is_odd


@pytest.mark.parametrize(("left_out", "greatest"), [([2], "16"), ([2, 3], "24"), ([1, 3], "16")])
def test_a_gap_in_a_series_is_told_with_its_size(tmp_path, left_out, greatest):
    paths = slices(tmp_path / "in", 7)
    for number in left_out:
        paths[number].unlink()
    (case,) = inputs.find_cases([str(tmp_path / "in")], tmp_path / "out")
    (note,) = inputs.read_case(case).notes
    assert note.startswith(f"slices are unevenly spaced, 8 to {greatest} mm apart instead of ")


def read_shifted(folder, shifts):
    """Read a series of slices 8 mm apart, each moved within its plane by some mm."""
    for path, (x, y) in zip(slices(folder / "in", len(shifts)), shifts, strict=True):
        content = pydicom.dcmread(path)
        content.ImagePositionPatient = [x, y, content.ImagePositionPatient[2]]
        content.save_as(path)
    (case,) = inputs.find_cases([str(folder / "in")], folder / "out")
    return inputs.read_case(case)


@pytest.mark.parametrize("wanted", FORMATS)
@pytest.mark.parametrize("shifts", [[(0, 4 * z) for z in range(4)], [(3 * z, -z) for z in range(4)]])
def test_every_slice_of_a_tilted_gantry_is_in_its_place(tmp_path, wanted, shifts):
    scan = read_shifted(tmp_path, shifts)
    values = np.zeros(scan.values.shape, np.uint8)
    target = choose_target(scan.target, wanted, values.shape, None)
    label_map = volumes.read_volume(target.write(tmp_path / "a", values, JSRT))
    shares = volumes.read_volume(target.write_values(tmp_path / "b", values))
    for z, (x, y) in enumerate(shifts):
        for found in (label_map, shares):
            assert found.affine @ [0, 0, z, 1] == pytest.approx([-x, -y, 8 * z, 1], abs=1e-4)
    assert shares.header["qform_code"] == 0
    assert scan.spacing_mm == (2.8, 2.8, 8)
    (note,) = scan.notes
    assert note.startswith(f"slices are shifted against each other by up to {np.hypot(*shifts[-1]):.3g} mm: ")
    assert "in its sform" in note


def test_slices_that_are_shifted_unevenly_are_stacked_straight_with_a_remark(tmp_path):
    scan = read_shifted(tmp_path, [(0, 0), (0, 5), (0, -5), (0, 0)])
    assert scan.target.affine[:3, 2].tolist() == [0, 0, 8]
    (note,) = scan.notes
    assert note.startswith("slices are shifted against each other by up to 5 mm: only a DICOM SEG ")


def test_rounded_positions_are_no_shifts(tmp_path):
    scan = read_shifted(tmp_path, [(0, 0), (0, 0.1), (0.2, 0.1), (0.2, 0.1)])
    assert scan.target.affine[:3, 2].tolist() == [0, 0, 8]
    assert scan.notes == []
    path = choose_target(scan.target, "nifti", scan.values.shape, None).write_values(tmp_path / "a", scan.values)
    assert nibabel.load(path).header["qform_code"] == 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_mosaic_of_slices_is_refused(tmp_path, count):
    slices(tmp_path / "in", count, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    (case,) = inputs.find_cases([str(tmp_path / "in")], tmp_path / "out")
    with pytest.raises(InputError, match="file 1 of the input: expected one slice in a file, got a mosaic of several"):
        inputs.read_case(case, force=True)


def test_an_xray_that_calls_itself_a_mosaic_is_read(tmp_path):
    save(dicom(GRAY, Modality="DX", ImageType=["DERIVED", "PRIMARY", "MOSAIC"]), tmp_path / "a.dcm")
    assert (inputs.read_case(find(tmp_path)[0]).values[..., 0].T == GRAY).all()


def test_bits_above_those_stored_are_ignored(tmp_path):
    rows = GRAY.copy()
    rows[4:9] |= 1 << 14
    save(dicom(rows), tmp_path / "a.dcm")
    assert (inputs.read_case(find(tmp_path)[0]).values[..., 0].T == GRAY).all()


@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 13), (10, 11)])
def test_bits_below_those_stored_are_ignored(tmp_path, bits, high):
    rows = GRAY >> (12 - bits)
    save(dicom(rows << (high + 1 - bits), BitsStored=bits, HighBit=high), tmp_path / "a.dcm")
    scan = inputs.read_case(find(tmp_path)[0])
    assert (rows == scan.values[..., 0].T).all()
    assert scan.gray_range == (0, 2**bits - 1)
    assert scan.gray_notes == []


@pytest.mark.parametrize(
    ("charset", "name", "kept"),
    [
        ("ISO_IR 100", "Müller^Jürgen", "ISO_IR 100"),
        ("ISO_IR 192", "Müller^Jürgen=山田", "ISO_IR 192"),
        ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"]),
        ("nonsense", "Li^Wu", "ISO_IR 192"),
    ],
)
def test_a_seg_names_its_patient_in_the_character_set_of_its_source(tmp_path, charset, name, kept):
    save(dicom(GRAY, SpecificCharacterSet=charset, PatientName=name), tmp_path / "in/a.dcm")
    scan = inputs.read_case(find(tmp_path / "in")[0])
    path = scan.target.write(tmp_path / "r", np.ones((24, 20, 1), np.uint8), JSRT)
    found = pydicom.dcmread(path)
    assert str(found.PatientName) == name
    assert found.SpecificCharacterSet == kept


SPACINGS = {
    "detector": ({"PixelSpacing": None, "ImagerPixelSpacing": [1.5, 1.5]}, 1.5, "at the detector"),
    "magnified": (
        {"PixelSpacing": None, "ImagerPixelSpacing": [1.5, 1.5], "EstimatedRadiographicMagnificationFactor": 1.25},
        1.2,
        "magnification factor 1.25",
    ),
    "equal": ({"PixelSpacing": [1.5, 1.5], "ImagerPixelSpacing": [1.5, 1.5]}, 1.5, "at the detector"),
    "calibrated": (
        {
            "PixelSpacing": [1.2, 1.2],
            "ImagerPixelSpacing": [1.5, 1.5],
            "EstimatedRadiographicMagnificationFactor": 1.25,
        },
        1.2,
        "",
    ),
    "calibrated and equal": (
        {"PixelSpacing": [1.5, 1.5], "ImagerPixelSpacing": [1.5, 1.5], "PixelSpacingCalibrationType": "FIDUCIAL"},
        1.5,
        "",
    ),
    "empty": ({"PixelSpacing": "", "ImagerPixelSpacing": [1.5, 1.5]}, 1.5, "at the detector"),
}


@pytest.mark.parametrize("kind", SPACINGS)
def test_spacing_of_an_xray(tmp_path, kind):
    tags, expected, note = SPACINGS[kind]
    save(dicom(GRAY, **tags), tmp_path / "a.dcm")
    scan = inputs.read_case(find(tmp_path)[0])
    assert scan.spacing_mm == pytest.approx((expected, expected, 1))
    assert bool(scan.notes) == bool(note)
    assert note in "".join(scan.notes)


FRAMES = {
    "empty slope": (
        "PixelValueTransformationSequence",
        {"RescaleSlope": "", "RescaleIntercept": "", "RescaleType": "US"},
    ),
    "empty rescaling": ("PixelValueTransformationSequence", {}),
    "empty times": ("FrameContentSequence", {"TemporalPositionIndex": None}),
    "no cardiac time": ("CardiacSynchronizationSequence", {"NominalCardiacTriggerDelayTime": None}),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_empty_attributes_of_frames_are_absent_ones(tmp_path, kind):
    macro, tags = FRAMES[kind]
    image = nibabel.Nifti1Image(np.stack([GRAY, GRAY // 2, GRAY // 3], axis=2), np.diag([1.5, 1.5, 8, 1]))
    content, _ = enhanced(image)
    for group in content.PerFrameFunctionalGroupsSequence:
        setattr(group, macro, sequence(**tags))
    save(content, tmp_path / "in/a.dcm")
    [case] = find(tmp_path / "in")
    scan = inputs.read_case(case)
    assert (scan.values == np.asarray(image.dataobj)).all()
    path = scan.target.write(tmp_path / "out/r", np.ones(scan.values.shape, np.uint8), JSRT)
    assert (path.suffix, scan.notes) == (".dcm", [])


def test_a_malformed_attribute_of_a_frame_is_named(tmp_path):
    content, _ = enhanced(nibabel.Nifti1Image(np.stack([GRAY] * 3, axis=2), np.eye(4)))
    group = content.PerFrameFunctionalGroupsSequence[1]
    group.PixelValueTransformationSequence[0].RescaleSlope = "7.125"
    spoil(save(content, tmp_path / "a.dcm"), b"7.125", b"7,125")
    with pytest.raises(InputError, match=r"file 1 of the input: expected one number in Rescale Slope \(RescaleSlope\)"):
        inputs.read_case(find(tmp_path)[0])


def test_a_mixed_folder_gives_each_image_once(tmp_path):
    slices(tmp_path / "one")
    renamed(tmp_path / "one", sorted((tmp_path / "one").iterdir()))
    slices(tmp_path / "two", phases=2)
    save(dicom(GRAY), tmp_path / "xray.dcm")
    directory(tmp_path / "DICOMDIR")
    nibabel.save(nibabel.Nifti1Image(GRAY, np.eye(4)), tmp_path / "plain.nii.gz")
    (tmp_path / "readme.pdf").write_bytes(b"%PDF")
    left_out = LeftOut()
    cases = find(tmp_path, left_out=left_out)
    assert sorted(len(case.files) for case in cases) == [1, 1, 4, 4, 4]
    assert [case.name for case in cases if case.kind == "volume"] == ["plain"]
    assert left_out.describe() == ["files of other formats: 1 (1 .pdf)", "DICOMDIR, the index of a medium: 1"]
