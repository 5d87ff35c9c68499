"""Small files that would fill the memory or the disk are refused with one line, within a bound of memory."""

import gzip
import io
import json
import struct
import tracemalloc
import zipfile
import zlib

import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImaged
from PIL import Image

from data_prep.archive import list_files
from data_prep.archive import read_picture as read_archived_picture
from data_prep.datasets import coco
from data_prep.files import read_nifti
from medpos.core.errors import InputError
from medpos.data.cached import CachedDataset
from medpos.io import archives, itk, nifti
from medpos.io.dicom.files import read_file
from medpos.io.dicom.planes import read_planes
from medpos.io.pictures import read_picture
from medpos.io.readers import read_jsrt, read_volume

ZEROS = bytes(1 << 20)
MOST = 200 << 20  # bytes of memory that a refusal may take


def gzipped(path, start, megabytes):
    with gzip.open(path, "wb", 1) as stream:
        stream.write(start)
        for _ in range(megabytes):
            stream.write(ZEROS)


def nifti_header(*shape):
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    return header.binaryblock + bytes(4)


def nifti_longer_than_its_header(path):
    gzipped(path / "a.nii.gz", nifti_header(8, 8, 1), 700)
    return nifti.read_volume, path / "a.nii.gz"


def nifti_of_many_streams(path):
    (path / "a.nii.gz").write_bytes(gzip.compress(nifti_header(8, 8, 1)) + gzip.compress(ZEROS, 1) * 300)
    return nifti.read_volume, path / "a.nii.gz"


def nifti_of_a_huge_shape(path):
    gzipped(path / "a.nii.gz", nifti_header(30000, 30000, 30000), 1)
    return read_nifti, path / "a.nii.gz"


def nifti_of_a_far_offset(path):
    start = bytearray(nifti_header(8, 8, 1))
    start[108:112] = struct.pack("<f", float("inf"))
    gzipped(path / "a.nii.gz", bytes(start), 1)
    return nifti.read_volume, path / "a.nii.gz"


def prepared_volume_of_a_huge_shape(path):
    gzipped(path / "a.nii.gz", nifti_header(8000, 8000, 9), 1)
    case = {"image": path / "a.nii.gz", "label": path / "a.nii.gz", "channels": 1}
    return lambda file: CachedDataset([case], LoadImaged(["image", "label"]), dict).fill(), path


def nrrd_longer_than_its_header(path):
    head = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 8 1\nencoding: gzip\n\n"
    gzipped(path / "b.gz", b"", 300)
    (path / "a.nrrd").write_bytes(head.encode() + (path / "b.gz").read_bytes())
    return lambda file: itk.read_volume(file, lambda shape: None), path / "a.nrrd"


def zip_of_zeros(path):
    with (
        zipfile.ZipFile(path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a", "w") as f,
    ):
        for _ in range(100):
            f.write(ZEROS)
    return list_files, path / "a.zip"


def zip_of_zeros_for_predict(path):
    _, file = zip_of_zeros(path)
    return lambda packed: archives.unpack(packed, path / "out", archives.LeftOut()), file


def tiff_of_pages(path):
    sides = [(8, 8), *[(8000, 8000)] * 9]
    pages = [Image.new("L", side) for side in sides]
    pages[0].save(path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_deflate")
    return read_picture, path / "a.tif"


def tiff(tags, data=b""):
    """Return a TIFF of one page with tags of whole numbers."""
    entries, more = b"", b""
    end = 8 + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack("<I", end + len(more))
        more += packed if len(values) > 1 else b""
        entries += struct.pack("<HHI", tag, 4, len(values)) + place
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + more + data


PAGE = {256: [8000], 257: [8000], 258: [8], 259: [8], 262: [1], 277: [1]}


def tiff_of_wide_tiles(path):
    strip = zlib.compress(ZEROS * 60, 1)
    tiles = {322: [60_000_000], 323: [1], 324: [200_000] * 8000, 325: [len(strip)] * 8000}
    (path / "a.tif").write_bytes(tiff({**PAGE, **tiles}).ljust(200_000, b"\0") + strip)
    return read_picture, path / "a.tif"


def tiff_of_shared_strips(path):
    strips = {273: [200_000] * 8000, 278: [1], 279: [10_000_000] * 8000}
    (path / "a.tif").write_bytes(tiff({**PAGE, **strips}).ljust(10_200_000, b"\0"))
    return read_picture, path / "a.tif"


def tiff_of_shared_entries(path):
    entry = struct.pack("<HHII", 273, 4, 2_000_000, 8)
    content = struct.pack("<2sHI", b"II", 42, 8_000_008).ljust(8_000_008, b"\0")
    (path / "a.tif").write_bytes(content + struct.pack("<H", 300) + entry * 300 + bytes(4))
    return read_picture, path / "a.tif"


def picture_of_an_archive(path):
    Image.new("1", (9000, 9000)).save(path / "a.png")
    return lambda file: read_archived_picture(file, "PNG"), path / "a.png"


def coco_of_a_huge_size(path):
    (path / "annotations").mkdir()
    for folder in ("train2017", "val2017"):
        (path / folder).mkdir()
        (path / folder / "1.jpg").touch()
        content = {
            "images": [{"id": 1, "file_name": "1.jpg", "width": 10**6, "height": 10**6}],
            "annotations": [
                {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": 10**6, "segmentation": [[0, 0, 9, 0, 9, 9]]}
            ],
        }
        (path / "annotations" / f"instances_{folder}.json").write_text(json.dumps(content))
    return coco.find_cases, path


def new_dicom(syntax):
    """Make a DICOM object of a transfer syntax, without pixels."""
    pydicom = pytest.importorskip("pydicom")
    content = pydicom.Dataset()
    content.file_meta = pydicom.dataset.FileMetaDataset()
    content.file_meta.TransferSyntaxUID = syntax
    content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID = "1.2.3"
    return content


def deflated_dicom(path):
    pydicom = pytest.importorskip("pydicom")
    content = new_dicom(pydicom.uid.DeflatedExplicitVRLittleEndian)
    content.add_new(0x7FE00010, "OB", ZEROS * 400)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, content, enforce_file_format=True)
    (path / "a.dcm").write_bytes(stream.getvalue())
    del content
    return lambda file: read_file(file, file, ["Modality"]), path / "a.dcm"


def sparse(path, start, megabytes=300):
    """Write a file that is far larger than what it takes on the disk."""
    with path.open("wb") as stream:
        stream.write(start)
        stream.truncate(megabytes << 20)
    return path


def volume_larger_than_the_limit(path):
    return read_nifti, sparse(path / "a.nii", nifti_header(8000, 8000, 9))


def pair_larger_than_the_limit(path):
    (path / "a.hdr").write_bytes(nifti_header(8000, 8000, 9).replace(b"n+1", b"ni1"))
    sparse(path / "a.img", b"")
    return read_nifti, path / "a.hdr"


def packed_volume_larger_than_its_header(path):
    start = gzip.compress(nifti_header(8, 8, 1) + bytes(64))
    return nifti.read_volume, sparse(path / "a.nii.gz", start[:-4] + bytes(4))


def metaimage_larger_than_the_limit(path):
    start = "NDims = 3\nDimSize = 8000 8000 9\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    return read_volume, sparse(path / "a.mha", start.encode(), 600)


def nrrd_larger_than_the_limit(path):
    start = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8000 8000 9\nencoding: raw\n\n"
    return read_volume, sparse(path / "a.nrrd", start.encode(), 600)


def png_larger_than_the_limit(path):
    Image.new("1", (9000, 9000)).save(path / "b.png")
    return read_picture, sparse(path / "a.png", (path / "b.png").read_bytes())


def jpeg_larger_than_the_limit(path):
    head = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHBBBB", 11, 16, 9000, 9000, 1, 1, 0x11, 0)  # lossless, 16 bits
    return read_picture, sparse(path / "a.jpg", head)


def tiff_larger_than_the_limit(path):
    return read_picture, sparse(path / "a.tif", tiff({**PAGE, 256: [9000], 273: [1000]}))


def radiograph_of_another_size(path):
    return read_jsrt, sparse(path / "a.IMG", b"")


def dicom_larger_than_the_limit(path):
    pydicom = pytest.importorskip("pydicom")
    content = new_dicom(pydicom.uid.ExplicitVRLittleEndian)
    content.Rows, content.Columns, content.BitsAllocated = 30000, 30000, 16
    content.add_new(0x7FE00010, "OW", bytes(2))
    pydicom.dcmwrite(path / "b.dcm", content, enforce_file_format=True)
    start = (path / "b.dcm").read_bytes()[:-6] + struct.pack("<I", (300 << 20) - 2000)
    return lambda file: read_planes(file, file, [], [], False), sparse(path / "a.dcm", start)


BOMBS = [
    volume_larger_than_the_limit,
    pair_larger_than_the_limit,
    packed_volume_larger_than_its_header,
    metaimage_larger_than_the_limit,
    nrrd_larger_than_the_limit,
    png_larger_than_the_limit,
    jpeg_larger_than_the_limit,
    tiff_larger_than_the_limit,
    radiograph_of_another_size,
    dicom_larger_than_the_limit,
    nifti_longer_than_its_header,
    nifti_of_many_streams,
    nifti_of_a_huge_shape,
    nifti_of_a_far_offset,
    prepared_volume_of_a_huge_shape,
    nrrd_longer_than_its_header,
    zip_of_zeros,
    zip_of_zeros_for_predict,
    tiff_of_pages,
    tiff_of_wide_tiles,
    tiff_of_shared_strips,
    tiff_of_shared_entries,
    picture_of_an_archive,
    coco_of_a_huge_size,
    deflated_dicom,
]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_a_bomb_is_refused_with_one_line_and_little_memory(tmp_path, bomb):
    read, path = bomb(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as raised:
            read(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert most < MOST


def test_an_empty_label_map_of_gzip_is_read_whatever_its_ratio(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((512, 512, 200), np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert nifti.read_volume(tmp_path / "a.nii.gz").data.shape == (512, 512, 200)


def test_a_gzip_file_of_several_streams_is_read(tmp_path):
    raw = nifti_header(300, 300, 30) + bytes(range(90)) * 30000
    (tmp_path / "a.nii.gz").write_bytes(b"".join(gzip.compress(raw[n : n + 65536]) for n in range(0, len(raw), 65536)))
    assert nifti.read_volume(tmp_path / "a.nii.gz").data.sum() == sum(range(90)) * 30000


def test_a_small_zip_of_any_ratio_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", ZEROS * 10)
    assert len(list_files(tmp_path / "a.zip")) == 1


META = "NDims = 3\nDimSize = 8 8 1\nElementType = MET_UCHAR\n"


@pytest.mark.parametrize(
    "header",
    [
        META.replace("NDims = 3", "NDims = 333"),
        META.replace("NDims = 3", "NDims = 11"),
        META.replace("NDims = 3", "NDims = -1"),
        META.replace("NDims = 3", "NDims = 3.0"),
        META.replace("NDims = 3", "N Dims = 333"),
        META.replace("NDims = 3", "NDims : 333\nNDims = 3"),
        META.replace("NDims = 3", "NDims = 3\nNDims = 333"),
        META + "NDims = 333\n",
        META.replace("NDims = 3\n", ""),
        META.replace("8 8 1", "8 8"),
        META.replace("8 8 1", "8 8 1 1"),
        META + f"TransformMatrix = {'1 ' * 5000}\n",
        META + "TransformMatrix = 1 0 0 1\n",
        META + "Offset = 0 0\n",
        META + f"Comment = {'x' * 5000}\n",
        META + f"{'x' * 5000} = 1\n",
    ],
    ids=lambda header: header[:30] + header[-20:],
)
@pytest.mark.parametrize("end", ["\n", "\r"])
def test_a_metaimage_header_that_overflows_itk_is_refused_before_itk_reads_it(tmp_path, header, end, monkeypatch):
    monkeypatch.setattr(itk, "_attempt", lambda *_: pytest.fail("ITK reads it"))
    path = tmp_path / "a.mha"
    path.write_bytes((header + "ElementDataFile = LOCAL\n").replace("\n", end).encode() + bytes(64))
    with pytest.raises(InputError, match=r"a\.mha: expected (each key|NDims|\d+ numbers)") as raised:
        itk.read_volume(path, lambda shape: None)
    assert str(raised.value).isprintable()
