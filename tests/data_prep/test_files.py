import os

import nibabel as nib
import numpy as np
import pytest
import raw

from data_prep import files
from medpos.core.errors import InputError


def test_pixdim_takes_precedence_over_the_affine(tmp_path):
    image = nib.Nifti1Image(np.ones(raw.SHAPE, np.int16), np.eye(4))
    image.set_sform([[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]], code=2)
    image.header.set_zooms((1.5, 2.0, 10.0))
    nib.save(image, tmp_path / "a.nii.gz")
    found = files.read_nifti(tmp_path / "a.nii.gz")
    assert found.spacing == (1.5, 2.0, 10.0)
    assert found.affine.tolist() == [[0, -2, 0, 5], [1.5, 0, 0, 6], [0, 0, 10, 7], [0, 0, 0, 1]]


def test_affine_without_inverse(tmp_path):
    image = nib.Nifti1Image(np.ones(raw.SHAPE, np.int16), np.eye(4))
    image.set_sform(np.diag([1, 0, 1, 1]), code=2)
    nib.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"a.nii.gz: expected an invertible affine"):
        files.read_nifti(tmp_path / "a.nii.gz")


def test_scaled_numbers_become_float32(tmp_path):
    image = nib.Nifti1Image(np.full(raw.SHAPE, 3, np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    data = files.read_nifti(tmp_path / "a.nii.gz").data
    assert data.dtype == np.float32
    assert (data == 3 * 0.5 + 1).all()  # nibabel writes the numbers as they are when a slope is set


def test_big_endian_numbers_become_native(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    image = nib.Nifti1Image(np.arange(480, dtype=">i2").reshape(raw.SHAPE), np.eye(4), header)
    nib.save(image, tmp_path / "a.nii.gz")
    data = files.read_nifti(tmp_path / "a.nii.gz").data
    assert data.dtype.isnative
    assert data.ravel()[300] == 300


def test_complex_numbers_are_refused(tmp_path):
    raw.nifti(tmp_path / "a.nii.gz", np.ones(raw.SHAPE, np.complex64))
    with pytest.raises(InputError, match=r"a.nii.gz: expected integers or floating point numbers, got complex64"):
        files.read_nifti(tmp_path / "a.nii.gz")


def test_round_trip_keeps_every_type(tmp_path):
    affine = np.array([[0, -1.5, 0, 3], [1.2, 0, 0, -8], [0, 0, 9.0, 1], [0, 0, 0, 1]])
    for kind in ("u1", "i2", "u2", "i4", "i8", "f4", "f8"):
        data = np.arange(24).reshape(2, 3, 4).astype(kind)
        (tmp_path / "a.nii.gz").write_bytes(files.encode_nifti(data, affine))
        found = files.read_nifti(tmp_path / "a.nii.gz")
        assert found.data.dtype == data.dtype
        assert np.array_equal(found.data, data)
        assert np.allclose(found.affine, affine)
        assert np.allclose(found.spacing, (1.2, 1.5, 9.0))


def test_results_keep_their_order():
    assert files.map_in_processes(abs, [-5, 3, -1, 2], 2, "abs") == [5, 3, 1, 2]


def test_a_killed_worker_is_explained():
    with pytest.raises(InputError, match=r"out of memory; run the same command again with fewer --workers"):
        files.map_in_processes(os._exit, [1, 1, 1], 2, "exit")
