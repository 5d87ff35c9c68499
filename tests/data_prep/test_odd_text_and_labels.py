import numpy as np
import pytest
import raw

from data_prep import pictures
from data_prep.datasets import acdc
from medpos.core.errors import InputError
from medpos.io.labels import round_labels

TEXT = "ED: 1\nES: 12\nGroup: HCM\nHeight: 170.0\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "ascii"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_info_in_any_encoding_with_any_line_ends(tmp_path, encoding, ends):
    path = tmp_path / "Info.cfg"
    path.write_bytes(TEXT.replace("\n", ends).encode(encoding))
    assert acdc.read_info(path) == {"ED": "1", "ES": "12", "Group": "HCM", "Height": "170.0"}


@pytest.mark.parametrize("offset", [6e-8, -6e-8, 1e-4, -9e-4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearly_whole_labels_are_rounded(tmp_path, offset, dtype):
    raw.nifti(tmp_path / "a.nii.gz", raw.label().astype(dtype) + dtype(offset))
    assert np.array_equal(pictures.read_label(tmp_path / "a.nii.gz").data, raw.label())


@pytest.mark.parametrize("value", [0.5, 1.002, -0.01, 2.25, np.inf])
def test_other_fractions_are_refused_with_their_values(tmp_path, value):
    folder = raw.subject(tmp_path / "patient001")
    label = raw.label().astype(np.float32)
    label[0, 0, 0] = value
    raw.nifti(folder / "patient001_frame07_gt.nii.gz", label)
    case = next(case for case in acdc.find_cases(tmp_path) if "07_gt" in case.sources["label"].name)
    with pytest.raises(InputError, match=rf"_gt.nii.gz: expected label values .*{str(value)[:4]}"):
        acdc.read_case(case)


def test_integer_labels_are_not_touched():
    label = raw.label()
    assert round_labels(label) is label
