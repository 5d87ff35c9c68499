"""Read every layout of samples alike in predict, data_prep and evaluate: what the standard says, and no bit less."""

import struct
import zlib

import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from PIL import Image

from data_prep import pictures as prepared
from medpos.core.errors import InputError
from medpos.evaluate.volumes import read_label_map
from medpos.io import pictures, readers
from medpos.io.pictures.files import FIRST_NOTE, UNIT_NOTE
from medpos.io.pictures.pages import ALPHA_NOTE, UPRIGHT_NOTE

RNG = np.random.default_rng(13)


def noise(shape, dtype=np.uint8, high=None):
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, (high or limits.max) + 1, shape, dtype=dtype)


def columns_first(rows):
    """Return [rows, columns(, 3)] as [X, Y, 1(, 3)]."""
    return np.expand_dims(rows.swapaxes(0, 1), 2)


def check(path, wanted, channels=1):
    """Check both readers of images against values [X, Y, Z(, 3)]."""
    scan, found = readers.read_picture(path, multichannel=channels > 1), prepared.read_image(path, channels)
    assert np.array_equal(found.data, wanted)
    assert np.array_equal(scan.values, wanted.astype(np.float32))
    assert list(found.notes) == scan.notes
    return scan


def itk(path):
    values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    volume = SimpleITK.ReadImage(str(path)).GetDimension() == 3
    return np.moveaxis(values, 0, 2).swapaxes(0, 1) if volume else columns_first(values)


def png(path, samples, color, bits=16, chunks=()):
    """Write a PNG of packed rows, all of them filtered in another way."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if bits == 16:
        packed = rows.astype(">u2").view(np.uint8)
    else:
        pieces = (rows[..., None] >> np.arange(bits)[::-1] & 1).reshape(height, -1)
        packed = np.packbits(pieces.astype(np.uint8), axis=1)
    size = max(1, samples.reshape(height, width, -1).shape[2] * bits // 8)
    lines, before = [], np.zeros(packed.shape[1], np.uint8)
    for number, line in enumerate(packed):
        left = np.concatenate([np.zeros(size, np.uint8), line[:-size]])
        lines.append(bytes([number % 3]) + (line - (0, left, before)[number % 3]).astype(np.uint8).tobytes())
        before = line
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    coded = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(coded))
    return path


@pytest.mark.parametrize(("color", "count"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("high", [4095, 65535])
def test_png_of_16_bits_keeps_all_of_them(tmp_path, color, count, high):
    samples = noise((21, 34, count), np.uint16, high)
    path = png(tmp_path / "a.png", samples, color)
    wanted = columns_first(samples[..., :3] if count > 2 else samples[..., 0])
    scan = check(path, wanted, 3 if count > 2 else 1)
    assert scan.notes == [ALPHA_NOTE] * (count in (2, 4))
    assert scan.gray_range == (0, high)
    if count != 2:  # SimpleITK reads no gray with alpha of 16 bits
        found = itk(path)
        assert np.array_equal(found[..., :3] if count > 2 else found, wanted)


@pytest.mark.parametrize("chunk", [(b"sBIT", b"\x0c\x0c\x0c"), (b"gAMA", struct.pack(">I", 45455)), (b"sRGB", b"\0")])
def test_chunks_of_a_png_change_no_sample(tmp_path, chunk):
    samples = noise((9, 8, 3), np.uint16)
    check(png(tmp_path / "a.png", samples, 2, chunks=[chunk]), columns_first(samples), 3)


@pytest.mark.parametrize(("color", "key"), [(0, b"\0\5"), (2, b"\0\5\0\6\0\7")])
def test_a_transparent_color_of_a_png_is_a_color(tmp_path, color, key):
    samples = noise((9, 8, 3 if color else 1), np.uint16)
    path = png(tmp_path / "a.png", samples, color, chunks=[(b"tRNS", key)])
    scan = check(path, columns_first(samples if color else samples[..., 0]), 3 if color else 1)
    assert scan.notes == [ALPHA_NOTE]


def test_three_equal_samples_of_16_bits_are_gray(tmp_path):
    rows = noise((9, 8), np.uint16, 4095)
    for color, count in ((2, 3), (6, 4)):
        samples = np.repeat(rows[..., None], count, axis=2)
        check(png(tmp_path / "a.png", samples, color), columns_first(rows))
        assert np.array_equal(prepared.read_label(tmp_path / "a.png").data, columns_first(rows))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_of_few_bits_is_scaled_as_an_image_and_stored_as_labels(tmp_path, bits):
    samples = noise((9, 11), high=2**bits - 1)
    path = png(tmp_path / "a.png", samples, 0, bits)
    check(path, columns_first(samples * (255 // (2**bits - 1))))
    assert np.array_equal(readers.read_picture(path).values, itk(path))
    assert np.array_equal(prepared.read_label(path).data, columns_first(samples))
    assert np.array_equal(read_label_map(path).values, columns_first(samples))


TYPES = ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float32"]
WAYS = {
    "plain": {},
    "deflate": {"compression": "zlib"},
    "big endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "rows": {"rowsperstrip": 7},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", TYPES)
def test_gray_tiff_equals_simpleitk(tmp_path, dtype, way):
    for shape in ((24, 37), (3, 24, 37)):
        rows = RNG.normal(size=shape).astype(dtype) if dtype == "float32" else noise(shape, dtype)
        tifffile.imwrite(tmp_path / "a.tif", rows, photometric="minisblack", **WAYS[way])
        wanted = itk(tmp_path / "a.tif")
        assert wanted.shape == (37, 24, shape[0] if len(shape) == 3 else 1)
        scan = check(tmp_path / "a.tif", wanted)
        assert (scan.gray_range is None) == (dtype == "float32")
        if dtype != "float32":
            assert np.array_equal(prepared.read_label(tmp_path / "a.tif").data, wanted)
            assert np.array_equal(read_label_map(tmp_path / "a.tif").values, wanted)


@pytest.mark.parametrize(
    ("dtype", "lowest", "highest", "bits"),
    [
        ("int8", -128, 127, 8),
        ("int8", -1, 5, 8),
        ("int16", -129, 0, 10),
        ("int16", -1, 512, 12),
        ("int16", -2048, 2047, 12),
        ("int16", -2049, 0, 14),
        ("int16", -32768, 32767, 16),
        ("int32", -(2**31), 2**31 - 1, 32),
        ("int64", -1, 2**31, 64),
    ],
)
def test_signed_tiff_has_the_fewest_bits_with_its_sign(tmp_path, dtype, lowest, highest, bits):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[lowest, highest]], dtype), photometric="minisblack")
    assert readers.read_picture(tmp_path / "a.tif").gray_range == (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_tiff_of_other_floats(tmp_path, dtype):
    rows = RNG.normal(size=(24, 37)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", rows)
    check(tmp_path / "a.tif", columns_first(rows.astype(np.float32)))


LAYOUTS = {
    "strips": {},
    "tiles": {"tile": (16, 32)},
    "planes": {"planarconfig": "separate"},
    "planes of tiles": {"planarconfig": "separate", "tile": (32, 16)},
    "difference": {"compression": "zlib", "predictor": 2},
    "deflated tiles": {"tile": (16, 32), "compression": "zlib", "predictor": 2, "byteorder": ">"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_tiff_of_every_layout(tmp_path, count, dtype, layout):
    options, rows = LAYOUTS[layout], noise((45, 70, count), dtype)
    extra = {"extrasamples": ["unassalpha"]} if count in (2, 4) else {}
    stored = rows.transpose(2, 0, 1) if "planarconfig" in options and count > 1 else rows
    if count == 1:
        stored, options = rows[..., 0], {key: value for key, value in options.items() if key != "planarconfig"}
    elif "planarconfig" not in options:
        options = {**options, "planarconfig": "contig"}
    photometric = "rgb" if count > 2 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, **extra, **options)
    wanted = columns_first(rows[..., :3] if count > 2 else rows[..., 0])
    assert check(tmp_path / "a.tif", wanted, 3 if count > 2 else 1).notes == [ALPHA_NOTE] * (count in (2, 4))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "P", "1", "F"])
def test_tiff_of_every_compression_without_loss(tmp_path, mode, compression):
    rows = {"RGB": noise((24, 37, 3)), "I;16": noise((24, 37), np.uint16), "F": noise((24, 37)).astype(np.float32)}
    image = Image.fromarray(rows.get(mode, noise((24, 37), high=9)))
    image = image.convert("1") if mode == "1" else image
    if mode == "P":
        image.putpalette(noise(30).tolist())
    image.save(tmp_path / "a.tif", compression=compression)
    shown = np.asarray(image.convert("RGB") if mode == "P" else image).astype(rows.get(mode, noise(1)).dtype)
    check(tmp_path / "a.tif", columns_first(shown * (255 if mode == "1" else 1)), 3 if mode in "RGBP" else 1)
    if mode in ("L", "P", "1"):
        assert np.array_equal(prepared.read_label(tmp_path / "a.tif").data[..., 0].T, np.asarray(image))


@pytest.mark.parametrize(("mode", "predictor"), [("L", 2), ("I;16", 2), ("RGB", 2), ("F", 3)])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_tiff_with_a_predictor(tmp_path, mode, predictor, compression):
    rows = {"L": noise((24, 37)), "I;16": noise((24, 37), np.uint16), "RGB": noise((24, 37, 3))}
    rows["F"] = RNG.normal(size=(24, 37)).astype(np.float32)
    image = Image.fromarray(rows[mode])
    image.save(tmp_path / "a.tif", compression=compression, tiffinfo={317: predictor})
    with Image.open(tmp_path / "a.tif") as stored:
        assert stored.tag_v2[317] == predictor
    check(tmp_path / "a.tif", columns_first(rows[mode]), 3 if mode == "RGB" else 1)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_pages_of_labels_in_any_order(tmp_path, mode, predictor, compression):
    pages = noise((5, 24, 37), np.uint16 if mode == "I;16" else np.uint8, 9)
    images = [Image.fromarray(page) for page in pages]
    for image in images if mode == "P" else ():
        image.putpalette(noise(30).tolist())
    options = {"compression": compression, "tiffinfo": {317: predictor}}
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:], **options)
    wanted = pages.transpose(2, 1, 0)
    assert np.array_equal(read_label_map(tmp_path / "a.tif").values, wanted)
    assert np.array_equal(prepared.read_label(tmp_path / "a.tif").data, wanted)
    content = (tmp_path / "a.tif").read_bytes()
    with Image.open(tmp_path / "a.tif") as stored:
        at = stored.tag_v2[273][0]
    (tmp_path / "a.tif").write_bytes(content[:at] + b"\xff" * 20 + content[at + 20 :])
    with pytest.raises(InputError, match=r"a\.tif: expected a complete picture"):
        prepared.read_label(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "group3", "group4", "tiff_ccitt"])
def test_bilevel_tiff_shows_white_as_1(tmp_path, compression):
    rows = noise((24, 37), high=1).astype(bool)
    Image.fromarray(rows).save(tmp_path / "a.tif", **({"compression": compression} if compression else {}))
    assert np.array_equal(prepared.read_label(tmp_path / "a.tif").data, columns_first(rows))
    assert np.array_equal(read_label_map(tmp_path / "a.tif").values, columns_first(rows))


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
def test_one_bit_whose_zero_is_white_is_said_of_a_label_map(tmp_path, photometric):
    rows = noise((24, 37), high=1).astype(bool)
    tifffile.imwrite(tmp_path / "a.tif", rows, photometric=photometric)
    found, inverted = prepared.read_label(tmp_path / "a.tif"), photometric == "miniswhite"
    assert np.array_equal(found.data, columns_first(rows ^ inverted))
    assert [note for note in found.notes if "comes out inverted" in note] == list(found.notes)
    assert len(found.notes) == inverted


def tiff(path, content, height, width, **tags):
    """Write a TIFF of one strip by its tags."""
    known = {"bits": 258, "photometric": 262, "samples": 277, "fill_order": 266, "subfile": 254}
    known |= {"compression": 259, "predictor": 317, "format": 339}
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 278: height, 279: len(content)}
    entries |= {known[name]: value for name, value in tags.items()}
    entries[273] = 8 + 2 + 12 * (len(entries) + 1) + 4
    lines = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + lines + bytes(4) + content)
    return path


@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 10, 12, 14, 15])
def test_tiff_of_packed_samples(tmp_path, bits, fill_order):
    rows = noise((9, 13), np.uint32, 2**bits - 1)
    pieces = (rows[..., None] >> np.arange(bits, dtype=np.uint32)[::-1] & 1).reshape(9, -1)
    packed = np.packbits(pieces.astype(np.uint8), axis=1)
    if fill_order == 2:
        packed = np.packbits(np.unpackbits(packed), bitorder="little")
    path = tiff(tmp_path / "a.tif", packed.tobytes(), 9, 13, bits=bits, fill_order=fill_order)
    shown = np.rint(rows * (255 / (2**bits - 1))) if bits < 8 else rows
    check(path, columns_first(shown))
    assert np.array_equal(prepared.read_label(path).data, columns_first(rows))


@pytest.mark.parametrize(
    ("bits", "kind", "what"),
    [(24, 1, "integers"), (17, 1, "integers"), (24, 3, "floats"), (12, 2, "signed integers"), (64, 6, "another type")],
)
def test_samples_of_an_odd_size_are_refused_in_one_line(tmp_path, bits, kind, what):
    path = tiff(tmp_path / "a.tif", bytes(9 * 13 * 8), 9, 13, bits=bits, format=kind)
    for read in (readers.read_picture, pictures.read_picture_labels):
        with pytest.raises(InputError, match=rf"a\.tif: expected integers of 1 to 16, .*{what} of {bits} bits; export"):
            read(path)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "zstd"])
def test_differences_of_the_bits_of_floats(tmp_path, compression):
    rows = RNG.normal(size=(24, 37)).astype(np.float32)
    Image.fromarray(rows).save(tmp_path / "a.tif", compression=compression, tiffinfo={317: 2})
    with Image.open(tmp_path / "a.tif") as stored:
        assert stored.tag_v2[317] == 2
        assert np.array_equal(np.asarray(stored), rows)
    check(tmp_path / "a.tif", columns_first(rows))


def test_the_predictor_of_a_compression_that_has_none_is_ignored(tmp_path):
    rows = noise((9, 13))
    path = tiff(tmp_path / "a.tif", rows.tobytes(), 9, 13, predictor=2)
    with Image.open(path) as stored:
        assert np.array_equal(np.asarray(stored), rows)
    check(path, columns_first(rows))
    assert np.array_equal(itk(path), columns_first(rows))


@pytest.mark.parametrize(("bits", "predictor"), [(12, 2), (4, 2), (16, 3), (8, 4), (8, 0)])
def test_a_predictor_that_does_not_fit_is_refused(tmp_path, bits, predictor):
    packed = zlib.compress(bytes(9 * 13 * 2))
    path = tiff(tmp_path / "a.tif", packed, 9, 13, bits=bits, compression=8, predictor=predictor)
    with pytest.raises(InputError, match=rf"fits samples of {bits} bits, got predictor {predictor}; export it again"):
        readers.read_picture(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_white_is_zero_is_inverted_in_images_and_stored_in_label_maps(tmp_path, dtype):
    rows = noise((24, 37), dtype, 200 if dtype == "uint8" else 4095)
    tifffile.imwrite(tmp_path / "a.tif", rows, photometric="miniswhite")
    scan = check(tmp_path / "a.tif", columns_first(np.iinfo(dtype).max - rows))
    assert "0 is white" in scan.notes[0]
    assert scan.gray_range == ((0, 255) if dtype == "uint8" else (65535 - 4095, 65535))
    assert np.array_equal(prepared.read_label(tmp_path / "a.tif").data, columns_first(rows))
    assert np.array_equal(read_label_map(tmp_path / "a.tif").values, itk(tmp_path / "a.tif"))
    assert "0 is white" in prepared.read_label(tmp_path / "a.tif").notes[0]


@pytest.mark.parametrize("shift", [1, 257])
def test_a_palette_gives_colors_to_images_and_indices_to_label_maps(tmp_path, shift):
    rows, colors = noise((24, 37), high=9), np.zeros((3, 256), np.uint16)
    colors[:, :10] = noise((3, 10))
    tifffile.imwrite(tmp_path / "a.tif", rows, photometric="palette", colormap=colors * np.uint16(shift))
    check(tmp_path / "a.tif", columns_first(colors.T[rows].astype(np.uint8)), 3)
    assert np.array_equal(prepared.read_label(tmp_path / "a.tif").data, columns_first(rows))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_cmyk_becomes_rgb_with_a_remark(tmp_path, dtype):
    rows = noise((24, 37, 4), dtype)
    tifffile.imwrite(tmp_path / "a.tif", rows, photometric="separated")
    light = 1 - rows.astype(float) / np.iinfo(dtype).max
    wanted = np.rint(light[..., :3] * light[..., 3:] * np.iinfo(dtype).max)
    assert check(tmp_path / "a.tif", columns_first(wanted), 3).notes == ["CMYK is converted to RGB"]


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
@pytest.mark.parametrize("compression", ["jpeg", "raw"])
def test_jpeg_and_ycbcr_in_tiff(tmp_path, mode, compression):
    smooth = np.add.outer(np.arange(48) * 3, np.arange(64) * 1.5).astype(np.uint8)
    image = Image.fromarray(np.dstack([smooth, smooth // 2, 255 - smooth])).convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    shown = np.asarray(image if mode == "L" else image.convert("RGB")).astype(float)
    found = prepared.read_image(tmp_path / "a.tif", 1 if mode == "L" else 3)
    assert np.abs(found.data - columns_first(shown)).max() < 12
    assert np.array_equal(readers.read_picture(tmp_path / "a.tif", multichannel=True).values, found.data)
    if compression == "jpeg":
        with pytest.raises(InputError, match="compressed with loss"):
            prepared.read_label(tmp_path / "a.tif")


def test_cielab_is_refused(tmp_path):
    Image.fromarray(noise((9, 8, 3))).convert("RGB").save(tmp_path / "b.tif")
    path = tiff(tmp_path / "a.tif", noise((9, 8, 3)).tobytes(), 9, 8, photometric=8, samples=3)
    for read in (readers.read_picture, pictures.read_picture_labels):
        with pytest.raises(InputError, match="got CIELab; convert it"):
            read(path)


def test_pages_are_slices_and_thumbnails_are_not(tmp_path):
    pages = noise((4, 24, 37), np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            writer.write(page, photometric="minisblack")
        writer.write(pages[0, ::4, ::4], photometric="minisblack", subfiletype=1)
    scan = check(tmp_path / "a.tif", pages.transpose(2, 1, 0))
    assert scan.notes == ["1 thumbnails or masks among the pages are left out"]
    assert np.array_equal(read_label_map(tmp_path / "a.tif").values, pages.transpose(2, 1, 0))


STACKS = {
    "ImageJ": {"imagej": True},
    "big endian": {"imagej": True, "byteorder": ">"},
    "tifffile": {"photometric": "minisblack"},
    "strips": {"photometric": "minisblack", "rowsperstrip": 7},
}


def stack(path, pages, way, color=False):
    """Write pages behind a single directory."""
    options = {key: value for key, value in STACKS[way].items() if key in ("imagej", "byteorder")}
    settings = {key: value for key, value in STACKS[way].items() if key not in options}
    with tifffile.TiffWriter(path, **options) as writer:
        writer.write(pages, truncate=True, **settings | ({"photometric": "rgb"} if color else {}))
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("way", STACKS)
def test_slices_behind_a_single_directory(tmp_path, way, dtype):
    pages = noise((6, 24, 37), dtype)
    path = stack(tmp_path / "a.tif", pages, way)
    check(path, pages.transpose(2, 1, 0))
    assert np.array_equal(prepared.read_label(path).data, pages.transpose(2, 1, 0))
    assert np.array_equal(read_label_map(path).values, pages.transpose(2, 1, 0))
    path.write_bytes(path.read_bytes()[:-10])
    for read in (pictures.read_picture, pictures.read_picture_labels):
        with pytest.raises(InputError, match=r"a\.tif: expected 6 slices as its description says, got 5; export it"):
            read(path)


def test_slices_of_colors_behind_a_single_directory(tmp_path):
    pages = noise((3, 24, 37, 3))
    check(stack(tmp_path / "a.tif", pages, "ImageJ", color=True), pages.transpose(2, 1, 0, 3), 3)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("text", ["ImageJ=1.54f\nimages=30\nslices=30\n", '{"shape": [30, 24, 37], "truncated": true}'])
def test_a_description_that_is_older_than_the_picture_does_not_count(tmp_path, text, compression):
    rows = noise((24, 37), np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rows, description=text, metadata=None, compression=compression)
    check(path, columns_first(rows))


def test_slices_in_the_depth_of_a_page_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    for tile in (None, (4, 16, 16)):
        tifffile.imwrite(path, noise((4, 24, 37)), volumetric=True, tile=tile, photometric="minisblack")
        for read in (pictures.read_picture, pictures.read_picture_labels):
            with pytest.raises(InputError, match=r"a\.tif: .* got one page of 4 slices .*; save each slice as a page$"):
                read(path)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_of_tiff_of_16_bit_colors(tmp_path, orientation):
    from test_io_pictures import UPRIGHT

    rows = noise((24, 37, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", rows, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    check(tmp_path / "a.tif", columns_first(UPRIGHT[orientation](rows)), 3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_the_first_of_several_pictures(tmp_path, name):
    first, second = (Image.fromarray(noise((16, 24))) for _ in range(2))
    kind = "MPO" if name == "a.jpg" else "PNG"
    first.save(tmp_path / name, format=kind, save_all=True, append_images=[second])
    first.save(tmp_path / "one.jpg") if kind == "MPO" else first.save(tmp_path / "one.png")
    scan = readers.read_picture(tmp_path / name)
    one = readers.read_picture(next(tmp_path.glob("one.*")))
    assert np.array_equal(scan.values, one.values)
    assert (scan.notes, one.notes) == ([FIRST_NOTE], [])
    assert list(prepared.read_image(tmp_path / name, 1).notes) == scan.notes


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_bmp(tmp_path, mode):
    image = Image.fromarray(noise((9, 11, 4) if mode == "RGBA" else (9, 11, 3))).convert(mode)
    image.save(tmp_path / "a.bmp")
    colored = mode in ("P", "RGB", "RGBA")
    shown = np.asarray(image.convert("RGB" if colored else "L"))
    check(tmp_path / "a.bmp", columns_first(shown), 3 if colored else 1)
    if mode in ("1", "L", "P"):
        assert np.array_equal(prepared.read_label(tmp_path / "a.bmp").data, columns_first(np.asarray(image)))


def bmp(path, indices, bits, colors, header=40):
    """Write a BMP of packed rows, the last row first."""
    height, width = indices.shape
    pieces = (indices[::-1, :, None] >> np.arange(bits)[::-1] & 1).reshape(height, -1)
    packed = np.packbits(np.pad(pieces, ((0, 0), (0, -width * bits % 32))).astype(np.uint8), axis=1).tobytes()
    entry = 3 if header == 12 else 4
    palette = b"".join(bytes([*color[::-1], 0][:entry]) for color in colors)
    fields = (
        struct.pack("<IHHHH", 12, width, height, 1, bits)
        if header == 12
        else struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(packed), 0, 0, len(colors), 0)
    )
    start = 14 + header + len(palette)
    path.write_bytes(struct.pack("<2sIHHI", b"BM", start + len(packed), 0, 0, start) + fields + palette + packed)
    return path


GRAYS = {"two": [(0, 0, 0), (255, 255, 255)], "one": [(0, 0, 0)], "sixteen": [(n, n, n) for n in range(16)]}


@pytest.mark.parametrize("width", [13, 64])
@pytest.mark.parametrize(
    ("bits", "palette", "header"),
    [(8, "two", 40), (8, "one", 40), (4, "two", 40), (4, "sixteen", 40), (4, "sixteen", 12), (1, "two", 12)],
)
def test_a_short_gray_palette_of_a_bmp(tmp_path, bits, palette, header, width):
    colors = GRAYS[palette]
    indices = RNG.integers(len(colors), size=(9, width), dtype=np.uint8)
    path = bmp(tmp_path / "a.bmp", indices, bits, colors, header)
    check(path, columns_first(np.array(colors, np.uint8)[indices][..., 0]))
    assert np.array_equal(prepared.read_label(path).data, columns_first(indices))
    assert np.array_equal(read_label_map(path).values, columns_first(indices))


def test_a_bmp_without_its_last_rows_is_refused(tmp_path):
    path = bmp(tmp_path / "a.bmp", noise((9, 13), high=1), 8, GRAYS["two"])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"a\.bmp: expected a complete picture"):
        pictures.read_picture(path)


def smoothed(rows):
    """Return a mask with anti-aliased edges."""
    return np.asarray(Image.fromarray(rows).resize((64, 64), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.png"])
def test_a_lossy_mask_is_refused_with_the_values_found(tmp_path, name):
    mask = np.zeros((24, 32), np.uint8)
    mask[5:17, 7:20] = 255
    if name == "a.png":
        Image.fromarray(mask).save(tmp_path / "b.jpg", quality=60)
        Image.open(tmp_path / "b.jpg").save(tmp_path / name)
        assert len(np.unique(prepared.read_label(tmp_path / name).data)) > 2  # refused where classes are declared
        return
    Image.fromarray(mask).save(tmp_path / name, **({"compression": "jpeg"} if name == "a.tif" else {}))
    with pytest.raises(InputError, match=r"changes label values"):
        prepared.read_label(tmp_path / name)
    with pytest.raises(InputError, match=r"changes label values"):
        read_label_map(tmp_path / name)


def test_a_mask_in_colors_is_refused_with_the_colors_found(tmp_path):
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    Image.fromarray(colors[noise((9, 8), high=2)]).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"got colors \(0 0 0, 0 255 0, 255 0 0\); convert it"):
        prepared.read_label(tmp_path / "a.png")


def broken(kind, path):
    rows = noise((24, 37), np.uint16)
    tifffile.imwrite(path, rows, **({"compression": "zlib"} if kind == "garbled" else {}))
    content = bytearray(path.read_bytes())
    if kind == "half":
        content = content[: len(content) // 2]
    elif kind == "header":
        content = content[:60]
    elif kind == "few bytes":
        content = content[:6]
    elif kind == "garbled":
        content[-40:] = bytes(40)
    elif kind == "loop":
        first = struct.unpack_from("<I", content, 4)[0]
        entries = struct.unpack_from("<H", content, first)[0]
        struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    path.write_bytes(bytes(content))
    return rows


@pytest.mark.parametrize("kind", ["half", "header", "few bytes", "garbled"])
def test_a_broken_tiff_is_refused(tmp_path, kind):
    broken(kind, tmp_path / "a.tif")
    for read in (pictures.read_picture, pictures.read_picture_labels):
        with pytest.raises(InputError, match=r"a\.tif: expected a complete picture"):
            read(tmp_path / "a.tif")


def test_a_chain_of_pages_that_is_a_loop_ends(tmp_path):
    rows = broken("loop", tmp_path / "a.tif")
    check(tmp_path / "a.tif", columns_first(rows))


def test_a_huge_tiff_is_refused_before_it_is_decoded(tmp_path):
    path = tiff(tmp_path / "a.tif", bytes(10), 60_000, 60_000)
    with pytest.raises(InputError, match="reduce or crop it first"):
        pictures.read_picture(path)


def lossless_jpeg(path, rows):
    """Write the JPEG stream that GDCM makes for DICOM."""
    image = SimpleITK.GetImageFromArray(rows)
    image.SetMetaData("0008|0060", "OT")
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(path.with_suffix(".dcm")))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.Execute(image)
    content = pydicom.dcmread(path.with_suffix(".dcm"))
    assert content.file_meta.TransferSyntaxUID in ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
    path.write_bytes(next(pydicom.encaps.generate_frames(content.PixelData, number_of_frames=1)))
    return path


@pytest.mark.parametrize("high", [255, 4095, 65535])
def test_gray_jpeg_of_more_than_8_bits(tmp_path, high):
    rows = noise((24, 36), np.uint8 if high == 255 else np.uint16, high)
    path = lossless_jpeg(tmp_path / "a.jpg", rows)
    scan = check(path, columns_first(rows))
    assert scan.gray_range == (0, high)
    assert np.array_equal(prepared.read_label(path).data, columns_first(rows))
    cut = path.read_bytes()
    path.write_bytes(cut[: len(cut) // 2])
    with pytest.raises(InputError, match="expected a complete picture"):
        pictures.read_picture(path)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7, 9])
@pytest.mark.parametrize("high", [255, 4095])
def test_exif_orientation_of_jpeg_lossless(tmp_path, high, orientation):
    from test_io_pictures import UPRIGHT

    rows = noise((24, 36), np.uint8 if high == 255 else np.uint16, high)
    path = lossless_jpeg(tmp_path / "a.jpg", rows)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("L", (1, 1)).save(tmp_path / "small.jpg", exif=exif)
    small = (tmp_path / "small.jpg").read_bytes()
    at = small.index(b"\xff\xe1")
    segment = small[at : at + 2 + struct.unpack_from(">H", small, at + 2)[0]]
    path.write_bytes(b"\xff\xd8" + segment + path.read_bytes()[2:])
    upright = UPRIGHT.get(orientation, UPRIGHT[1])(rows)
    assert check(path, columns_first(upright)).notes == [UPRIGHT_NOTE] * (1 < orientation < 9)
    assert np.array_equal(prepared.read_label(path).data, columns_first(upright))


@pytest.mark.parametrize(
    ("process", "bits", "count"), [(0, 12, 3), (1, 12, 3), (2, 12, 3), (3, 16, 3), (3, 8, 3), (2, 12, 1), (9, 8, 1)]
)
def test_a_jpeg_of_another_process_is_named(tmp_path, process, bits, count):
    Image.fromarray(noise((16, 16, 3) if count == 3 else (16, 16))).save(tmp_path / "a.jpg")
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    at = content.index(b"\xff\xc0")
    content[at + 1], content[at + 4] = 0xC0 + process, bits
    (tmp_path / "a.jpg").write_bytes(bytes(content))
    for read in (pictures.read_picture, pictures.read_picture_labels):
        with pytest.raises(
            InputError, match=f"got {bits} bits, {count} samples and process {process}; convert it to PNG"
        ):
            read(tmp_path / "a.jpg")


@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xf7\0\x0b", b"\xff\x4f\xff\x51\0\x2f", b"GIF89a", b"RIFF"])
def test_a_picture_of_another_format_is_refused_without_an_address(tmp_path, start):
    (tmp_path / "a.png").write_bytes(start + bytes(200))
    with pytest.raises(InputError, match=r"a\.png: expected PNG, JPEG, TIFF or BMP, got another format; convert it$"):
        pictures.read_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("values", "ends"), [((0, 1), (0, 1)), ((0.2, 0.7), (0, 1)), ((0, 4095), None), ((-1, 1), None)]
)
def test_floats_from_0_to_1_are_black_to_white(tmp_path, values, ends):
    tifffile.imwrite(tmp_path / "a.tif", np.linspace(*values, 80, dtype=np.float32).reshape(8, 10))
    scan = readers.read_picture(tmp_path / "a.tif")
    assert scan.gray_range == ends
    assert scan.notes == [UNIT_NOTE] * (ends is not None)
