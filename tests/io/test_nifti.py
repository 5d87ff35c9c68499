import gzip

import nibabel as nib
import numpy as np
import pytest

from data_prep import files
from medpos.core.errors import InputError
from medpos.core.labels import JSRT
from medpos.io import nifti, readers
from medpos.io.scan import Scan, StoredVolume
from medpos.io.targets import choose_target

DATA = np.arange(120, dtype=np.int16).reshape(6, 5, 4)
AFFINE = np.array([[-1.5, 0, 0, 4], [0, -2, 0, 5], [0, 0, 8, 6], [0, 0, 0, 1.0]])


def save(path, kind=nib.Nifti1Image, data=DATA, affine=AFFINE, units="mm"):
    image = kind(data, affine)
    image.header.set_xyzt_units(units)
    image.set_qform(affine, code=1)
    nib.save(image, path)
    return path


def change(path, **fields):
    """Set header fields as they are, without nibabel's corrections."""
    raw = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    raw[:348] = header.binaryblock
    path.write_bytes(raw)
    return path


def read_twice(path) -> tuple[StoredVolume, Scan]:
    """Read by data_prep and by predict, and compare the two."""
    prepared, scan = files.read_nifti(path), readers.read_volume(path)
    assert np.array_equal(prepared.data, scan.values)
    assert scan.spacing_mm is None or scan.spacing_mm == prepared.spacing
    assert set(prepared.notes) <= set(scan.notes)
    return prepared, scan


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("units", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001), ("unknown", 1)])
def test_units_become_mm(tmp_path, kind, units, factor):
    found, _ = read_twice(save(tmp_path / "a.nii.gz", kind, units=units))
    assert found.spacing == pytest.approx((1.5 * factor, 2 * factor, 8 * factor), rel=1e-6)
    assert np.allclose(found.affine[:3], AFFINE[:3] * factor)
    assert np.array_equal(found.data, DATA)


@pytest.mark.parametrize(
    ("code", "factor"), [(7, 1), (4, 1), (255, 1), (0xF9, 1000), (0b11000010, 1), (0b10000011, 1e-3)]
)
def test_unknown_codes_of_units_are_mm(tmp_path, code, factor):
    found, scan = read_twice(change(save(tmp_path / "a.nii"), xyzt_units=code))
    assert found.spacing == pytest.approx((1.5 * factor, 2 * factor, 8 * factor), rel=1e-6)
    scan.target.write(tmp_path / "label", np.zeros(DATA.shape, np.uint8), JSRT)


def test_an_endless_offset_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", nib.Nifti2Image)
    raw = bytearray(path.read_bytes())
    raw[168:176] = (2**63 - 1).to_bytes(8, "little")  # vox_offset
    path.write_bytes(raw)
    with pytest.raises(InputError, match="expected a complete file"):
        nifti.read_volume(path)


def test_an_offset_that_is_no_number_is_refused(tmp_path):
    path = tmp_path / "a.hdr"
    nib.save(nib.Nifti1Pair(DATA, np.eye(4)), path)
    raw = bytearray(path.read_bytes())
    raw[108:112] = np.float32(np.nan).tobytes()  # vox_offset
    path.write_bytes(raw)
    with pytest.raises(InputError, match="expected a NIfTI or Analyze file"):
        nifti.read_volume(path)


def test_micrometers_keep_their_digits(tmp_path):
    affine = np.diag([50.0, 50, 200, 1])
    assert read_twice(save(tmp_path / "a.nii", affine=affine, units="micron"))[0].spacing == (0.05, 0.05, 0.2)


@pytest.mark.parametrize("name", ["A.NII", "A.NII.GZ", "a.Nii.gz", "a.nii.GZ"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_any_spelling_of_the_suffix(tmp_path, name, kind):
    packed = gzip.compress if name.lower().endswith("gz") else bytes
    (tmp_path / name).write_bytes(packed(kind(DATA, AFFINE).to_bytes()))
    assert np.array_equal(read_twice(tmp_path / name)[0].data, DATA)


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 4096, b"\r\n", b"\n--end--\n"])
def test_bytes_after_the_gzip_stream(tmp_path, tail):
    path = save(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes() + tail)
    found, _ = read_twice(path)
    assert np.array_equal(found.data, DATA)
    assert found.notes == (f"{len(tail)} bytes after the end of the gzip stream are left out",)


def test_a_file_that_is_not_packed_is_to_be_renamed(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"another format")
    with pytest.raises(InputError, match=r"a\.nii\.gz: expected a complete gzip .* isn't packed, rename it to a\.nii$"):
        nifti.read_volume(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"the file is empty\); download or copy it again$"):
        nifti.read_volume(path)


def test_several_gzip_members(tmp_path):
    raw = save(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(raw[:400]) + gzip.compress(raw[400:]))
    found, _ = read_twice(tmp_path / "b.nii.gz")
    assert np.array_equal(found.data, DATA)
    assert found.notes == ()


@pytest.mark.parametrize("cut", [-1, -9, 100, 20])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_truncated_files(tmp_path, name, cut):
    path = save(tmp_path / name)
    path.write_bytes(path.read_bytes()[:cut])
    for read in (files.read_nifti, readers.read_volume):
        with pytest.raises(InputError, match=rf"{name}: expected .* again"):
            read(path)


@pytest.mark.parametrize(
    ("stored", "read"),
    [((1.5, 2, 0), (1.5, 2, 1)), ((0, 2, 8), (1, 2, 8)), ((-1.5, 2, 8), (1.5, 2, 8)), ((-1.5, -2, -8), (1.5, 2, 8))],
)
def test_zero_and_negative_pixdim(tmp_path, stored, read):
    path = change(save(tmp_path / "a.nii"), pixdim=[1, *stored, 0, 0, 0, 0])
    found, scan = read_twice(path)
    assert found.spacing == scan.spacing_mm == read
    assert np.allclose(np.linalg.norm(found.affine[:3, :3], axis=0), read)
    assert found.notes[0].startswith(f"voxel size in the header is {' x '.join(f'{s:g}' for s in stored)}: read as")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixdim_that_is_no_number(tmp_path, value):
    path = change(save(tmp_path / "a.nii"), pixdim=[1, 1.5, value, 8, 0, 0, 0, 0])
    for read in (files.read_nifti, readers.read_volume):
        with pytest.raises(InputError, match=r"a.nii: expected three voxel spacings, .*; correct pixdim"):
            read(path)


def test_disagreeing_pixdim_is_named_and_holds(tmp_path):
    found, scan = read_twice(change(save(tmp_path / "a.nii"), pixdim=[1, 3, 2, 8, 0, 0, 0, 0]))
    assert scan.spacing_mm == (3, 2, 8)
    assert "pixdim (3 x 2 x 8) and affine (1.5 x 2 x 8) disagree: the voxel size is pixdim's" in found.notes


@pytest.mark.parametrize("field", [{"qoffset_x": 40}, {"quatern_b": 0.6, "quatern_c": 0, "quatern_d": 0}])
def test_disagreeing_forms_are_named(tmp_path, field):
    path = change(save(tmp_path / "a.nii"), sform_code=2, **field)
    assert read_twice(path)[0].notes == ("sform and qform disagree: directions and origin are the sform's",)
    assert np.allclose(read_twice(path)[0].affine, AFFINE)


def test_shape_is_checked_before_the_voxels_are_read(tmp_path):
    path = save(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(InputError, match="too wide"):
        nifti.read_volume(path, lambda shape: (_ for _ in ()).throw(InputError(f"too wide: {shape}")))


@pytest.mark.parametrize("offset", [0, 100, 351])
def test_voxels_begin_after_the_header(tmp_path, offset):
    path = change(save(tmp_path / "a.nii"), vox_offset=offset)
    for read in (files.read_nifti, readers.read_volume):
        with pytest.raises(InputError, match=rf"a.nii: expected the voxels from byte 352 on, got vox_offset {offset} "):
            read(path)


def test_a_file_that_is_called_gzipped_and_is_not(tmp_path):
    path = save(tmp_path / "a.nii").rename(tmp_path / "a.nii.gz")
    assert np.array_equal(read_twice(path)[0].data, DATA)


def test_a_quaternion_longer_than_1_by_rounding(tmp_path):
    save(tmp_path / "a.nii")
    turned = {"sform_code": 0, "quatern_b": 0.6, "quatern_c": 0.8, "quatern_d": 0.0}
    exact = read_twice(change(tmp_path / "a.nii", **turned))[0]
    longer = read_twice(change(tmp_path / "a.nii", **turned | {"quatern_c": 0.80001}))[0]
    assert np.allclose(longer.affine, exact.affine, atol=1e-3)
    with pytest.raises(InputError, match=r"a.nii: expected a NIfTI file"):
        read_twice(change(tmp_path / "a.nii", **turned | {"quatern_c": 0.9}))


def test_sheared_axes_are_named(tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.5
    image = nib.Nifti1Image(DATA, sheared)
    image.header["pixdim"][1:4] = np.linalg.norm(sheared[:3, :3], axis=0)
    nib.save(image, tmp_path / "a.nii")
    assert [note.split(":")[0] for note in read_twice(tmp_path / "a.nii")[0].notes] == [
        "the axes are not at right angles (shear)"
    ]
    assert read_twice(save(tmp_path / "b.nii"))[0].notes == ()


@pytest.mark.parametrize("wanted", ["nrrd", "mha"])
def test_a_label_map_has_the_voxel_size_that_was_measured(tmp_path, wanted):
    scan = readers.read_volume(change(save(tmp_path / "a.nii"), pixdim=[1, 3, 2, 8, 0, 0, 0, 0]))
    target = choose_target(scan.target, wanted, DATA.shape, None)
    found = readers.read_volume(target.write(tmp_path / "label", np.zeros(DATA.shape, np.uint8), JSRT))
    assert found.spacing_mm == scan.spacing_mm == (3, 2, 8)
