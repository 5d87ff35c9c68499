"""Read NRRD, MetaImage and Analyze as SimpleITK reads them, and refuse what is damaged."""

import gzip
import re
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from data_prep import pictures
from medpos.core.errors import InputError
from medpos.evaluate.volumes import read_label_map
from medpos.io import readers, volumes
from medpos.io.channels import join_channels

EYE = np.eye(3)
OBLIQUE = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
LEFT_HANDED = np.diag([1.0, 1, -1])
SPACING, ORIGIN = (0.5, 0.75, 2.5), (10.0, -20.0, 30.0)
NRRD = "type: uint16\ndimension: 3\nsizes: 2 3 4\nencoding: raw\nendian: little\n"
META = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 2 3 4\n"
META += "ElementType = MET_USHORT\n"
DATA = np.arange(24, dtype=np.uint16)
BYTES = DATA.tobytes()
STORED = DATA.reshape(4, 3, 2).T  # as the files hold it


def image(values, directions=EYE, spacing=SPACING, vector=False):
    made = SimpleITK.GetImageFromArray(values, isVector=vector)
    rank = made.GetDimension()
    made.SetSpacing(spacing[:rank])
    made.SetOrigin(ORIGIN[:rank])
    made.SetDirection(np.asarray(directions)[:rank, :rank].ravel().tolist())
    return made


def nrrd(path, fields="", data=BYTES, base=NRRD):
    path.write_bytes(f"NRRD0004\n{base}{fields}\n".encode() + data)
    return path


def meta(path, fields="", data=BYTES, place="LOCAL", base=META):
    path.write_bytes(f"{base}{fields}ElementDataFile = {place}\n".encode() + (data if place == "LOCAL" else b""))
    return path


def to_ras(made):
    """Return the affine of a SimpleITK image by its own function, voxel by voxel."""
    ends = [made.TransformIndexToPhysicalPoint(index) for index in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    points = np.array(ends) * [-1, -1, 1]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = (points[1:] - points[0]).T, points[0]
    return affine


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd", "A.NRRD", "A.MHA"])
@pytest.mark.parametrize("directions", [np.eye(3), OBLIQUE, LEFT_HANDED, -LEFT_HANDED])
def test_every_reader_has_the_geometry_of_simpleitk(tmp_path, name, directions, packed):
    values = np.random.default_rng(0).integers(0, 3000, (4, 6, 5)).astype(np.int16)
    made = image(values, directions)
    SimpleITK.WriteImage(made, str(tmp_path / name.lower()), packed)
    (tmp_path / name.lower()).rename(tmp_path / name)
    scan, prepared, label = (
        read(tmp_path / name) for read in (readers.read_volume, lambda p: pictures.read_image(p, 1), read_label_map)
    )
    for found in (scan.values, prepared.data, label.values):
        assert np.array_equal(found, values.transpose(2, 1, 0))
    for affine in (prepared.affine, label.affine, scan.target.affine):
        assert np.allclose(affine, to_ras(made), atol=1e-6)
    assert scan.spacing_mm == prepared.spacing == label.spacing_mm == SPACING
    assert np.allclose(scan.directions, (np.diag([-1, -1, 1]) @ directions))
    assert scan.notes == []


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_components_are_channels(tmp_path, name):
    values = np.random.default_rng(0).random((4, 6, 5, 3)).astype(np.float32)
    SimpleITK.WriteImage(image(values, vector=True), str(tmp_path / name))
    expected = values.transpose(2, 1, 0, 3)
    assert np.array_equal(readers.read_volume(tmp_path / name, multichannel=True).values, expected)
    assert np.array_equal(pictures.read_image(tmp_path / name, 3).data, expected)
    with pytest.raises(InputError, match="4 axes"):
        readers.read_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_two_axes_are_one_slice_without_orientation(tmp_path, name):
    values = np.random.default_rng(0).integers(0, 255, (6, 5)).astype(np.uint8)
    SimpleITK.WriteImage(image(values), str(tmp_path / name))
    scan = readers.read_volume(tmp_path / name)
    assert np.array_equal(scan.values, values.T[..., None])
    assert scan.spacing_mm == (0.5, 0.75, 1.0)
    assert scan.directions is None
    assert "orientation unknown" in scan.notes[0]


@pytest.mark.parametrize(
    ("space", "signs"), [("right-anterior-superior", (1, 1)), ("LAS", (-1, 1)), ("left-posterior-superior", (-1, -1))]
)
def test_spaces_of_nrrd(tmp_path, space, signs):
    fields = f"space: {space}\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (5,6,7)\n"
    found = volumes.read_volume(nrrd(tmp_path / "a.nrrd", fields))
    expected = np.array([[2, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1.0]])
    expected[:2] *= np.array(signs)[:, None]
    assert np.allclose(found.affine, expected)
    assert np.array_equal(found.data, STORED)
    assert found.is_oriented


@pytest.mark.parametrize(
    ("fields", "known"), [("", False), ("spacings: 2 3 4\n", True), ("spacings: NaN nan nan\n", False)]
)
def test_nrrd_without_patient_space_has_no_orientation(tmp_path, fields, known):
    found = volumes.read_volume(nrrd(tmp_path / "a.nrrd", fields))
    assert (found.is_oriented, found.has_spacing) == (False, known)
    assert readers.read_volume(tmp_path / "a.nrrd").spacing_mm == ((2, 3, 4) if known else None)


@pytest.mark.parametrize(
    ("fields", "known", "oriented"),
    [
        ("", False, False),
        ("ElementSize = 2 3 4\n", True, False),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1\n", False, True),
    ],
)
def test_metaimage_that_states_little(tmp_path, fields, known, oriented):
    found = volumes.read_volume(meta(tmp_path / "a.mha", fields))
    assert (found.has_spacing, found.is_oriented) == (known, oriented)
    assert np.array_equal(found.data, STORED)


@pytest.mark.parametrize(
    ("write", "fields", "factor"),
    [
        (nrrd, 'space: LPS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace units: "um" "um" "um"\n', 0.001),
        (nrrd, 'space: LPS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace units: "cm" "cm" "cm"\n', 10),
        (nrrd, 'space: LPS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace units: "mm" "mm" "mm"\n', 1),
        (meta, "ElementSpacing = 2 3 4\nDistanceUnits = um\n", 0.001),
    ],
)
def test_units_become_mm(tmp_path, write, fields, factor):
    found = volumes.read_volume(write(tmp_path / ("a.nrrd" if write is nrrd else "a.mha"), fields))
    assert found.spacing == pytest.approx((2 * factor, 3 * factor, 4 * factor))
    assert np.allclose(np.linalg.norm(found.affine[:3, :3], axis=0), found.spacing)


UNITS = {
    1000: ["m", "meters"],
    10: ["cm", "centimeter"],
    1: ["mm", "Millimeters", "millimetre"],
    0.001: ["um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre"],
    1e-6: ["nm", "nanometers"],
}


@pytest.mark.parametrize(("unit", "factor"), [(unit, factor) for factor, units in UNITS.items() for unit in units])
def test_every_spelling_of_a_unit(tmp_path, unit, factor):
    fields = f'space: LPS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace units: "{unit}" "{unit}" "{unit}"\n'
    for found in (
        volumes.read_volume(nrrd(tmp_path / "a.nrrd", fields)),
        volumes.read_volume(meta(tmp_path / "a.mha", f"ElementSpacing = 2 3 4\nDistanceUnits = {unit}\n")),
    ):
        assert found.spacing == pytest.approx((2 * factor, 3 * factor, 4 * factor))
        assert not found.notes


def test_units_that_are_not_known_are_named(tmp_path):
    fields = 'space: LPS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace units: "inch" "inch" "inch"\n'
    found = volumes.read_volume(nrrd(tmp_path / "a.nrrd", fields))
    assert found.spacing == (2, 3, 4)
    assert "inch" in found.notes[0]


@pytest.mark.parametrize(
    ("write", "fields"),
    [
        (nrrd, "spacings: 0 3 4\n"),
        (nrrd, "spacings: nan 3 4\n"),
        (nrrd, "space: LPS\nspace directions: (0,0,0) (0,3,0) (0,0,4)\n"),
        (nrrd, "space: LPS\nspace directions: (2,0,0) (2,0,0) (0,0,4)\n"),
        (nrrd, "space: LPS\nspace directions: (nan,0,0) (0,3,0) (0,0,4)\n"),
        (meta, "ElementSpacing = 0 3 4\n"),
        (meta, "ElementSpacing = nan 3 4\n"),
        (meta, "TransformMatrix = 1 0 0 1 0 0 0 0 1\n"),
    ],
)
def test_a_grid_that_is_none_is_refused(tmp_path, write, fields, capfd):
    path = write(tmp_path / ("a.nrrd" if write is nrrd else "a.mha"), fields)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: expected [^\n]*; [^\n]*$"):
        volumes.read_volume(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("write", "fields"), [(nrrd, "spacings: -2 3 4\n"), (meta, "ElementSpacing = -2 3 4\n")])
def test_a_negative_spacing_turns_its_axis_with_a_remark(tmp_path, write, fields):
    path = write(tmp_path / ("a.nrrd" if write is nrrd else "a.mha"), fields)
    found = volumes.read_volume(path)
    assert np.allclose(found.affine, to_ras(SimpleITK.ReadImage(str(path))))
    assert found.spacing == (2, 3, 4)
    assert "negative" in found.notes[0]


def save(path, packed):
    SimpleITK.WriteImage(
        image(np.random.default_rng(0).integers(0, 9999, (6, 20, 16)).astype(np.int16)), str(path), packed
    )
    return path


@pytest.mark.parametrize("lost", [1, 700])
@pytest.mark.parametrize(
    ("name", "data", "packed"),
    [
        ("a.nrrd", "a.nrrd", False),
        ("a.nrrd", "a.nrrd", True),
        ("a.nhdr", "a.raw", False),
        ("a.nhdr", "a.raw.gz", True),
        ("a.mha", "a.mha", False),
        ("a.mha", "a.mha", True),
        ("a.mhd", "a.raw", False),
        ("a.mhd", "a.zraw", True),
    ],
)
def test_truncated_data_are_refused_and_nothing_is_printed(tmp_path, name, data, packed, lost, capfd):
    path = save(tmp_path / name, packed)
    (tmp_path / data).write_bytes((tmp_path / data).read_bytes()[:-lost])
    with pytest.raises(InputError, match="expected"):
        volumes.read_volume(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [None, 0, -40, 40])
@pytest.mark.parametrize("flag", ["True", "true", "T", "1"])
def test_packed_data_of_a_misstated_size_are_read(tmp_path, size, flag, capfd):
    packed = zlib.compress(BYTES)
    stated = "" if size is None else f"CompressedDataSize = {size and len(packed) + size}\n"
    fields = f"ElementSpacing = 2 3 4\nOffset = 5 6 7\nCompressedData = {flag}\n{stated}"
    (tmp_path / "b.zraw").write_bytes(packed)
    for path in (meta(tmp_path / "a.mha", fields, packed), meta(tmp_path / "a.mhd", fields, place="b.zraw")):
        found = volumes.read_volume(path)
        assert np.array_equal(found.data, STORED)
        assert found.spacing == (2, 3, 4)
        assert found.affine[:3, 3].tolist() == [-5, -6, 7]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_a_complete_stream_of_fewer_voxels_is_refused(tmp_path, name, stated, capfd):
    packed, path = zlib.compress(BYTES[:20]), tmp_path / name
    fields = f"CompressedData = True\nCompressedDataSize = {len(packed) * stated}\n"
    (tmp_path / "b.zraw").write_bytes(packed)
    (tmp_path / "b.raw.gz").write_bytes(gzip.compress(BYTES[:20]))
    if name == "a.mha":
        meta(path, fields, packed)
    elif name == "a.mhd":
        meta(path, fields, place="b.zraw")
    else:
        inside = name == "a.nrrd"
        data, place = (gzip.compress(BYTES[:20]), "") if inside else (b"", "data file: b.raw.gz\n")
        nrrd(path, place, data, NRRD.replace("raw", "gzip"))
    with pytest.raises(InputError, match=r"^[^\n]*[ab]\.[^\n]*expected [^\n]*48 bytes [^\n]* 20; [^\n]*again$"):
        volumes.read_volume(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_a_damaged_stream_is_refused(tmp_path, name):
    path = save(tmp_path / name, packed=True)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 0x55  # ITK reads on
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"undamaged|complete"):
        volumes.read_volume(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK\3\4", b"NRRD0004\n", b"NRRD0004\ntype: short\n\n", b"NDims = 3\n", b"\xff" * 99]
)
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.hdr"])
def test_something_else_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "a.img").write_bytes(b"")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / name))):
        volumes.read_volume(tmp_path / name)


@pytest.mark.parametrize("start", ["data", "labels: ", "x: a:=", "x\f", "x\r"])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr"])
def test_long_fields_are_refused_as_itk_writes_beyond_its_memory(tmp_path, name, start):
    with pytest.raises(InputError, match="expected an NRRD header with fields of up to 800 bytes, got one of"):
        volumes.read_volume(nrrd(tmp_path / name, f"{start}{'1 ' * 2000}: a\n"))


def test_a_header_without_an_end_is_refused(tmp_path):
    with pytest.raises(InputError, match="got a header without an end"):
        volumes.read_volume(nrrd(tmp_path / "a.nrrd", "#\n" * 2**19))


@pytest.mark.parametrize("start", ["# ", "content: ", "Segment0_Tags:="])
def test_long_texts_of_nrrd_are_read(tmp_path, start):
    assert volumes.read_volume(nrrd(tmp_path / "a.nrrd", f"{start}{'text: ' * 2000}\n")).data.shape == (2, 3, 4)


@pytest.mark.parametrize("place", ["../a.raw", "/etc/hostname", "b/../../a.raw"])
@pytest.mark.parametrize("name", ["a.nhdr", "a.mhd"])
def test_data_outside_the_folder_are_refused(tmp_path, name, place):
    (tmp_path / "in").mkdir()
    (tmp_path / "a.raw").write_bytes(DATA.tobytes())
    path = tmp_path / "in" / name
    meta(path, place=place) if name == "a.mhd" else nrrd(path, f"data file: {place}\n", b"")
    with pytest.raises(InputError, match="in its own folder"):
        volumes.read_volume(path)


@pytest.mark.parametrize("name", ["a.nhdr", "a.mhd"])
def test_missing_data_are_named(tmp_path, name):
    path = tmp_path / name
    meta(path, place="b.raw") if name == "a.mhd" else nrrd(path, "data file: b.raw\n", b"")
    with pytest.raises(InputError, match=r"expected its data in b\.raw, got no such file"):
        volumes.read_volume(path)


@pytest.mark.parametrize("place", ["LIST\ns1.raw\ns2.raw\ns3.raw\ns4.raw", "s%d.raw 1 4 1"])
@pytest.mark.parametrize("name", ["a.nhdr", "a.mhd"])
def test_a_file_for_each_slice(tmp_path, name, place):
    for number, part in enumerate(DATA.reshape(4, 6), 1):
        (tmp_path / f"s{number}.raw").write_bytes(part.tobytes())
    path = tmp_path / name
    if name == "a.mhd":
        path.write_text(f"{META}ElementDataFile = {place}\n")
    else:
        path.write_text(f"NRRD0004\n{NRRD}data file: {place}\n")
    assert np.array_equal(volumes.read_volume(path).data, STORED)
    assert volumes.list_parts(path) == tuple(tmp_path / f"s{number}.raw" for number in (1, 2, 3, 4))
    (tmp_path / "s3.raw").unlink()
    with pytest.raises(InputError, match=r"s3\.raw"):
        volumes.read_volume(path)


def slices(folder, packed=False):
    for number, part in enumerate(DATA.reshape(4, 6), 1):
        content = part.tobytes()
        (folder / f"s{number}.raw").write_bytes(zlib.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_the_last_line_of_a_list_may_lack_its_end(tmp_path, line, end, packed, capfd):
    slices(tmp_path, packed)
    base, place = META + "CompressedData = True\n" * packed, line.join(["LIST", *(f"s{n}.raw" for n in (1, 2, 3, 4))])
    (tmp_path / "a.mhd").write_bytes(f"{base}ElementDataFile = {place}{end}".encode())
    assert np.array_equal(volumes.read_volume(tmp_path / "a.mhd").data, STORED)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("LIST\ns1.raw\ns2.raw\ns3.raw", "expected 4 data files .* got 3"),
        ("LIST\n" + "s1.raw\n" * 5, "expected 4 data files .* got 5"),
        ("LIST 3\ns1.raw\ns2.raw", "expected 1 data files .* got 2"),
        ("LIST", "expected 4 data files .* got 0"),
        ("s%d.raw 1 3 1", "expected 4 data files .* got 3"),
        ("s%d.raw 4 1 -1", "a step above 0"),
        ("s%d.raw 1 4 0", "a step above 0"),
        ("s%d.raw 1 4 1 2", "a step above 0"),
    ],
)
def test_another_number_of_data_files_is_refused(tmp_path, place, found):
    slices(tmp_path)
    path = meta(tmp_path / "a.mhd", place=place)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: [^\n]*{found}[^\n]*; [^\n]*$"):
        volumes.read_volume(path)


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_short_slice_is_named(tmp_path, end, capfd):
    slices(tmp_path)
    (tmp_path / "s3.raw").write_bytes(bytes(7))
    path = tmp_path / "a.mhd"
    path.write_text(f"{META}ElementDataFile = LIST\ns1.raw\ns2.raw\ns3.raw\ns4.raw{end}")
    with pytest.raises(InputError, match=r"s3\.raw: expected 12 bytes of data, got 7; download or export it again"):
        volumes.read_volume(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("place", ["s%d.raw 4 1 -1", "../s%d.raw 4 1 -1"])
def test_slices_of_nrrd_may_count_down_in_their_folder(tmp_path, place):
    folder = tmp_path / "in"
    folder.mkdir()
    slices(folder)
    slices(tmp_path)
    path = nrrd(folder / "a.nhdr", f"data file: {place}\n", b"")
    if place.startswith(".."):
        with pytest.raises(InputError, match="in its own folder"):
            volumes.read_volume(path)
        return
    assert volumes.list_parts(path) == tuple(folder / f"s{number}.raw" for number in (4, 3, 2, 1))
    assert np.array_equal(volumes.read_volume(path).data, STORED[..., ::-1])


def analyze(path, values, endianness="<", **fields):
    header = nib.AnalyzeHeader(endianness=endianness)
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape)
    header.set_zooms(SPACING[: values.ndim])
    nib.save(nib.AnalyzeImage(values, None, header), path)
    raw = bytearray(path.read_bytes())
    changed = nib.AnalyzeHeader(bytes(raw), endianness=endianness, check=False)
    for key, value in fields.items():
        changed[key] = value
    path.write_bytes(changed.binaryblock)
    return path


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_analyze_has_the_values_of_simpleitk(tmp_path, dtype, endianness):
    values = np.random.default_rng(0).integers(0, 250, (5, 6, 4)).astype(dtype)
    path = analyze(tmp_path / "a.hdr", values, endianness)
    direct = SimpleITK.ReadImage(str(path))
    scan, prepared = readers.read_volume(path), pictures.read_image(path, 1)
    for found in (scan.values, prepared.data):
        assert np.array_equal(found, SimpleITK.GetArrayFromImage(direct).transpose(2, 1, 0))
    assert scan.spacing_mm == prepared.spacing == pytest.approx(direct.GetSpacing())
    assert scan.directions is None
    assert np.allclose(prepared.affine[:3, :3], nib.AnalyzeImage.load(path).affine[:3, :3])


def pack_pair(path, header=True, data=True):
    """Pack one or both files of a pair with gzip, as FSL does, and return the header."""
    for place, packed in ((path, header), (path.with_suffix(".img"), data)):
        if packed:
            place.with_name(f"{place.name}.gz").write_bytes(gzip.compress(place.read_bytes(), mtime=0))
            place.unlink()
    return path.with_name("a.hdr.gz") if header else path


@pytest.mark.parametrize(("header", "data"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("kind", ["analyze", "nifti"])
def test_packed_pairs_are_read_as_those_that_are_not(tmp_path, kind, header, data):
    values = np.random.default_rng(0).integers(0, 250, (5, 6, 4)).astype(np.int16)
    values[:2, 0, 0] = 0x8B1F - 65536  # the bytes that begin a gzip stream
    if kind == "nifti":
        nib.save(nib.Nifti1Pair(values, np.diag([2.0, 3, 4, 1])), tmp_path / "a.hdr")
    else:
        analyze(tmp_path / "a.hdr", values)
    wanted = volumes.read_volume(tmp_path / "a.hdr")
    assert np.array_equal(wanted.data, values)
    path = pack_pair(tmp_path / "a.hdr", header, data)
    place = next(tmp_path.glob("a.img*"))
    assert (volumes.list_parts(path), volumes.find_header(place)) == ((place,), path)
    for found in (volumes.read_volume(path), pictures.read_image(path, 1)):
        assert np.array_equal(found.data, wanted.data)
        assert np.array_equal(found.affine, wanted.affine)
        assert (found.spacing, found.notes, found.is_oriented) == (wanted.spacing, wanted.notes, wanted.is_oriented)
    assert np.array_equal(read_label_map(path).values, values)


DAMAGES = {
    "half of the data": (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "img.gz", "complete gzip"),
    "fewer data": (lambda p: p.write_bytes(gzip.compress(bytes(99))), "img.gz", "truncated"),
    "far more data": (lambda p: p.write_bytes(gzip.compress(bytes(3_000_000))), "img.gz", "got far more"),
    "data not packed": (lambda p: p.write_bytes(bytes(240)), "img.gz", "complete gzip file .got another format"),
    "header not packed": (lambda p: p.write_bytes(bytes(348)), "hdr.gz", "complete gzip file .got another format"),
    "no data": (lambda p: p.unlink(), "img.gz", r"a\.hdr\.gz: expected its data in a\.img\.gz"),
    "huge header": (
        lambda p: p.write_bytes(gzip.compress(nib.Nifti1Header(endianness="<").binaryblock + bytes(9_000_000))),
        "hdr.gz",
        "a.hdr.gz: expected",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_packed_pairs_are_refused(tmp_path, damage):
    spoil, which, message = DAMAGES[damage]
    path = pack_pair(analyze(tmp_path / "a.hdr", np.zeros((5, 6, 4), np.int16)))
    spoil(tmp_path / f"a.{which}")
    with pytest.raises(InputError, match=message):
        readers.read_volume(path)


def test_analyze_with_half_of_its_data_is_refused(tmp_path):
    path = analyze(tmp_path / "a.hdr", np.zeros((5, 6, 4), np.int16))
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-1])
    with pytest.raises(InputError, match="truncated"):
        volumes.read_volume(path)


@pytest.mark.parametrize(("units", "factor"), [(b"mm", 1), (b"um", 0.001), (b"", 1)])
def test_units_and_odd_spacings_of_analyze(tmp_path, units, factor):
    path = analyze(tmp_path / "a.hdr", np.zeros((5, 6, 4), np.int16), vox_units=units, pixdim=[0, -2, 0, 4, 0, 0, 0, 0])
    found = volumes.read_volume(path)
    assert found.spacing == pytest.approx((2 * factor, factor, 4 * factor))
    assert "voxel size" in found.notes[0]


def test_a_nifti_pair_is_read_as_the_file_of_both(tmp_path):
    affine = np.array([[-1.5, 0, 0, 4], [0, -2, 0, 5], [0, 0, 8, 6], [0, 0, 0, 1.0]])
    values = np.arange(120, dtype=np.int16).reshape(6, 5, 4)
    nib.save(nib.Nifti1Pair(values, affine), tmp_path / "a.hdr")
    found = volumes.read_volume(tmp_path / "a.hdr")
    assert np.array_equal(found.data, values)
    assert np.allclose(found.affine, affine)
    assert found.is_oriented


def test_segments_in_one_layer_are_read_and_several_refused(tmp_path):
    fields = "Segment0_ID:=liver\nSegment0_LabelValue:=3\nSegment0_Layer:=0\n"
    one = nrrd(tmp_path / "a.seg.nrrd", f"space: LPS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\n{fields}")
    assert np.array_equal(read_label_map(one).values, STORED)
    base = NRRD.replace("dimension: 3\nsizes: 2 3 4", "dimension: 4\nsizes: 2 1 3 4\nkinds: list domain domain domain")
    two = nrrd(tmp_path / "b.seg.nrrd", f"{fields}Segment1_ID:=tumor\nSegment1_Layer:=1\n", base=base)
    for read in (read_label_map, pictures.read_label):
        with pytest.raises(InputError, match="in one layer, got 2"):
            read(two)


def test_gzip_of_nrrd_may_have_a_name(tmp_path):
    data = gzip.compress(DATA.tobytes())
    found = volumes.read_volume(nrrd(tmp_path / "a.nrrd", "", data, NRRD.replace("raw", "gzip")))
    assert np.array_equal(found.data, STORED)


@pytest.mark.parametrize(("change", "is_same"), [(1.0, True), (-1.0, False), (1.2, False)])
def test_channels_of_any_format_are_on_one_grid(tmp_path, change, is_same):
    """Join two channels as NRRD, the second one with its x axis scaled or mirrored."""
    files = [tmp_path / "a_0000.nrrd", tmp_path / "a_0001.nrrd"]
    for path, scale in zip(files, (1.0, change), strict=True):
        image = SimpleITK.GetImageFromArray(np.random.default_rng(0).normal(size=(4, 5, 6)))
        image.SetSpacing((abs(scale), 1, 8))
        image.SetDirection((float(np.sign(scale)), 0, 0, 0, 1, 0, 0, 0, 1))
        SimpleITK.WriteImage(image, str(path))
    scans = [readers.read_volume(path) for path in files]
    if is_same:
        assert join_channels(files, scans, ("t1", "t2")).values.shape == (6, 5, 4, 2)
        return
    with pytest.raises(InputError, match=r"a_0001.nrrd: expected the affine of a_0000.nrrd"):
        join_channels(files, scans, ("t1", "t2"))
