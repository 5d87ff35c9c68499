import copy
import json
import logging
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import NormalizeIntensityd
from running import parser

from medpos.core.errors import InputError
from medpos.data import conditions
from medpos.data.cached import CachedDataset
from medpos.data.conditions import CLEAN, Condition
from medpos.data.folder import DataFolder

# Each of these, put in the place of any entry of dataset.json, is refused or harmless; nothing else may happen.
JUNK = [None, True, 3, -1.5, "text", "", [], [[]], {}, {"a": 1}, float("nan")]


def paths(content, prefix=()):
    """List the paths of the entries of dataset.json; of each list only the first item is followed."""
    keys = content.keys() if isinstance(content, dict) else range(min(len(content), 1))
    for key in keys:
        yield (*prefix, key)
        if isinstance(content[key], dict | list):
            yield from paths(content[key], (*prefix, key))


def use(folder):
    """Use a folder in every way that a bundle does."""
    source = DataFolder(folder)
    assert source.intensity["std"] > 0
    return [source.cases(split) for split in ("training", "validation", "test")]


def spoilt(whole):
    """Yield ``dataset.json`` with one entry replaced by junk or left out, in every way."""
    for *way, last in paths(whole):
        for junk in [*JUNK, KeyError]:
            content = copy.deepcopy(whole)
            node = content
            for key in way:
                node = node[key]
            if junk is KeyError:
                del node[last]
            else:
                node[last] = junk
            yield (*way, last, junk), content


def complaint(folder):
    """Return the message about a folder; empty if it is used without one."""
    try:
        use(folder)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ["jsrt", "acdc"])
def test_junk_in_dataset_json_is_an_input_error_or_harmless(kind, prepared, monkeypatch):
    whole = json.loads((prepared[kind] / "dataset.json").read_text())
    complaints = {}
    for where, content in spoilt(whole):
        monkeypatch.setattr("medpos.data.folder._read_json", lambda _, content=content: content)
        complaints[str(where)] = complaint(prepared[kind])
    said = [text for text in complaints.values() if text]
    assert len(said) > 150
    assert [text for text in said if "dataset.json" not in text or "\n" in text] == []


def test_folder(prepared):
    source = DataFolder(prepared["jsrt"])
    assert (source.name, source.phantom) == ("jsrt", True)
    assert [label.name for label in source.labels] == ["background", "right_lung", "left_lung", "heart"]
    assert 0 < source.intensity["mean"] < 1
    assert (source.intensity["low"], source.intensity["high"]) == (0, 4095)
    [case] = source.cases("validation")
    assert case["split"] == "validation"
    assert Path(case["image"]).is_file()


def test_training_cases_are_drawn_by_subject_and_seed(prepared):
    source = DataFolder(prepared["acdc"])
    one, again, other = (source.cases("training", 2, seed) for seed in (0, 0, 1))
    assert one == again
    assert len(one) == 4  # two phases each
    assert len({case["subject"] for case in one}) == 2
    assert len({case["subject"] for seed in range(6) for case in source.cases("training", 1, seed)}) > 1
    assert other != one or source.cases("training", 2, 2) != one


@pytest.mark.parametrize("color", ["red", "#12", "", 3])
def test_an_invalid_color_is_refused(color, data):
    content = json.loads((data / "dataset.json").read_text())
    content["labels"][1]["colour"] = color
    (data / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="colour"):
        DataFolder(data)


@pytest.mark.parametrize("indices", [[0, 2, 1, 3], [1, 2, 3, 4], [0, 0, 1, 2]])
def test_label_indices_out_of_order(indices, data):
    content = json.loads((data / "dataset.json").read_text())
    for label, index in zip(content["labels"], indices, strict=True):
        label["index"] = index
    (data / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="in order, background first"):
        DataFolder(data)


# --- the cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def volumes(prepared):
    """Return test volumes as a bundle decodes them, and count how often each file was decoded."""
    config = parser("acdc_small_pe", dataset_dir=str(prepared["acdc"]), image_size=32)
    decode, seen = config.get_parsed_content("decode"), []

    def count(files):
        seen.append(files["image"])
        return decode(files)

    cases = DataFolder(prepared["acdc"]).cases("test")
    return cases, count, config.get_parsed_content("preprocessing"), seen


def test_every_image_is_decoded_once_for_all_conditions(volumes, caplog):
    caplog.set_level(logging.INFO)
    cases, decode, transform, seen = volumes
    dataset = CachedDataset(cases, decode, transform, conditions=conditions.degradations())
    assert len(dataset) == 16 * len(cases)
    items = [dataset[n] for n in range(len(dataset))]
    assert sorted(seen) == sorted(case["image"] for case in cases)
    assert [(item["case"], item["degradation"], item["severity"]) for item in items] == [
        (case["case"], c.degradation, c.severity) for c in conditions.degradations() for case in cases
    ]
    assert dataset.under([CLEAN]) is dataset
    assert len(dataset) == len(cases)
    assert len(seen) == len(cases)
    assert f"decoded {len(cases)} cases into memory (" in caplog.text


def test_transforms_do_not_change_the_cache(volumes):
    """Compare the first and the last access after every transform of a bundle has worked on the item."""
    cases, decode, transform, _ = volumes
    many = [CLEAN, *conditions.degradations()[1:], Condition(shift_x=3), Condition("shot_noise", 5, -2, 4)]
    dataset = CachedDataset(cases, decode, transform, conditions=many)
    first = [dataset[n] for n in range(len(dataset))]
    kept = copy.deepcopy(dataset._cache)
    again = [dataset[n] for n in reversed(range(len(dataset)))][::-1]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
    for one, other in zip(kept, dataset._cache, strict=True):
        assert torch.equal(one["image"], other["image"])
    assert not torch.equal(first[0]["image"], first[2]["image"])


@pytest.mark.parametrize("slices", [False, True])
def test_transforms_in_place_do_not_change_the_cache(slices, volumes):
    """Use MONAI's NormalizeIntensityd by channel, which works in place and would standardize again in every epoch."""
    cases, decode, _, _ = volumes
    standardize = NormalizeIntensityd(["image", "label"], subtrahend=[0.5], divisor=[0.25], channel_wise=True)
    dataset = CachedDataset(cases, decode, standardize, slices=slices)
    first = {key: dataset[0][key].clone() for key in ("image", "label")}
    again = dataset[0]
    assert all(torch.equal(again[key], values) for key, values in first.items())


@pytest.mark.parametrize("name", ["jsrt_small_pe", "acdc_small_pe"])
def test_training_chain_of_a_bundle(name, prepared):
    config = parser(name, dataset_dir=str(prepared[name[:4]]), image_size=32)
    dataset = config.get_parsed_content("train::dataset")
    kept = [dataset[n] for n in (0, 1)]
    assert all(torch.equal(dataset[n]["image"], kept[n]["image"]) for n in (0, 1))
    assert kept[0]["image"].shape == (3, 32, 32)
    assert kept[0]["image"].dtype == torch.float32
    assert (kept[0]["label"].shape, kept[0]["label"].dtype) == ((32, 32), torch.long)
    position = kept[0]["image"][1:]
    alpha = config.get_parsed_content("pe_alpha")
    assert torch.allclose(position[0, :, 0], torch.linspace(-alpha, alpha, 32))  # x along the columns
    assert torch.allclose(position[1, 0, :], torch.linspace(-alpha, alpha, 32))


@pytest.mark.parametrize("slices", [False, True])
def test_cases_beyond_the_memory_limit_are_decoded_at_every_access(slices, volumes, monkeypatch, caplog):
    cases, decode, transform, seen = volumes
    monkeypatch.setattr("medpos.data.cached._BATCH", 1)
    whole = CachedDataset(cases, decode, transform, slices=slices)
    wanted = [whole[n] for n in range(len(whole))]
    seen.clear()
    with caplog.at_level(logging.INFO):
        dataset = CachedDataset(cases, decode, transform, slices=slices, memory_gb=1e-9)
        assert len(dataset) == len(wanted)
    assert len(seen) == 1
    assert f"the other {len(cases) - 1} are decoded at every access" in caplog.text
    for n, item in enumerate(wanted):
        assert dataset[n]["case"] == item["case"]
        assert torch.equal(dataset[n]["image"], item["image"])
    assert len(seen) == 1 + 2 * sum(item["case"] != wanted[0]["case"] for item in wanted)
    assert dataset.shapes() == whole.shapes()
    assert (dataset.class_counts(4) == whole.class_counts(4)).all()
    with pytest.raises(InputError, match="memory_gb: expected a number above 0, got 0"):
        CachedDataset(cases, decode, transform, memory_gb=0)


def test_slices(prepared):
    config = parser("acdc_small", dataset_dir=str(prepared["acdc"]), image_size=32)
    cases = DataFolder(prepared["acdc"]).cases("test")
    decode, transform = config.get_parsed_content("decode"), lambda item: item
    volumes = CachedDataset(cases, decode, transform)
    slices = CachedDataset(cases, decode, transform, slices=True)
    depths = [case["shape"][2] for case in cases]
    assert len(slices) == sum(depths)
    assert [slices[n]["case"] for n in (0, depths[0] - 1, depths[0])] == [cases[0]["case"]] * 2 + [cases[1]["case"]]
    stacked = torch.stack([slices[n]["image"] for n in range(depths[0])], dim=-1)
    assert torch.equal(stacked, volumes[0]["image"])
    assert slices[0]["image"].shape == slices[0]["label"].shape == (1, 32, 32)


def test_spacing_is_that_of_the_resampled_pixels(prepared):
    config = parser("acdc_small", dataset_dir=str(prepared["acdc"]), image_size=32)
    [case, *_] = DataFolder(prepared["acdc"]).cases("test")
    item = CachedDataset([case], config.get_parsed_content("decode"), lambda item: item)[0]
    wanted = [s * n / m for s, n, m in zip(case["spacing_mm"], case["shape"], (32, 32, case["shape"][2]), strict=True)]
    assert item["spacing_mm"].tolist() == pytest.approx(wanted)
    config = parser("jsrt_small", dataset_dir=str(prepared["jsrt"]), image_size=32)
    item = config.get_parsed_content("dataset")[0]
    assert item["spacing_mm"].tolist() == pytest.approx([2048 * 0.175 / 32] * 2)


def test_decoding_keeps_orientation_and_gray_values(prepared):
    """Compare with the file itself: the patient's right lung is on the image's left, at low column numbers."""
    config = parser("jsrt_small", dataset_dir=str(prepared["jsrt"]), image_size=128)
    decoded = config.get_parsed_content("dataset")
    decoded.transform = lambda item: item
    file = nibabel.load(decoded.data[0]["image"]).get_fdata()[..., 0]
    assert np.allclose(decoded[0]["image"][0].numpy(), np.clip(file / 4095, 0, 1), atol=1e-6)
    label = decoded[0]["label"][0].numpy()
    assert np.argwhere(label == 1)[:, 0].mean() < np.argwhere(label == 2)[:, 0].mean()
    assert np.array_equal(label, nibabel.load(decoded.data[0]["label"]).get_fdata()[..., 0])


def test_error_names_the_file_and_the_deepest_cause(prepared, tmp_path):
    folder = shutil.copytree(prepared["jsrt"], tmp_path / "d")
    [case, *_] = DataFolder(folder).cases("test")
    Path(case["label"]).write_bytes(b"")
    config = parser("jsrt_small", dataset_dir=str(folder), image_size=32)
    with pytest.raises(InputError) as info:
        config.get_parsed_content("dataset")[0]
    assert case["label"] in str(info.value)
    assert "verify" in str(info.value)


def ignoring(folder, index=255):
    """Say in ``dataset.json`` that 255 is to be ignored, and put it into the first test case."""
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "ignore_index": index}))
    path = folder / content["test"][0]["label"]
    label = nibabel.load(path)
    values = np.asarray(label.dataobj).copy()
    values[:20] = 255
    nibabel.save(nibabel.Nifti1Image(values, label.affine, label.header), path)
    return path


def test_ignored_pixels(data):
    assert DataFolder(data).ignore_index is None
    path = ignoring(data)
    assert DataFolder(data).ignore_index == 255
    dataset = parser("jsrt_small", dataset_dir=str(data), image_size=128).get_parsed_content("dataset")
    dataset.transform = lambda item: item
    assert set(dataset[0]["label"][0, :20].unique().tolist()) == {255}
    assert set(dataset[0]["label"].unique().tolist()) == {0, 1, 2, 3, 255}
    label = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.full(label.shape, 4, np.uint8), label.affine, label.header), path)
    dataset = parser("jsrt_small", dataset_dir=str(data), image_size=128).get_parsed_content("dataset")
    with pytest.raises(InputError, match=r"expected labels 0 to 3 as dataset.json lists, or 255 .*got 4"):
        dataset[0]


@pytest.mark.parametrize("index", [0, 254, -1, "255", True])
def test_another_value_to_ignore(index, data):
    ignoring(data, index)
    with pytest.raises(InputError, match=r"expected ignore_index 255 or none, got"):
        DataFolder(data)


def test_255_is_refused_without_ignore_index(data):
    ignoring(data)
    content = json.loads((data / "dataset.json").read_text())
    del content["ignore_index"]
    (data / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"expected labels 0 to 3 as dataset.json lists, got 255; "):
        parser("jsrt_small", dataset_dir=str(data), image_size=32).get_parsed_content("dataset")[0]


def test_the_pixel_size_of_a_standard_is_not_nominal(data):
    """JSRT states no pixel size in its files, and has 0.175 mm by its publication."""
    assert json.loads((data / "dataset.json").read_text())["spacing"] == "standard of the set"
    assert not DataFolder(data).nominal_spacing


def state_spacing(data, source):
    content = json.loads((data / "dataset.json").read_text())
    del content["spacing"]
    if source:
        content["spacing"] = source
    (data / "dataset.json").write_text(json.dumps(content, indent=2) + "\n")
    return DataFolder(data)


@pytest.mark.parametrize(("source", "nominal"), [("header", False), ("standard of the set", False), ("assumed", True)])
def test_where_the_pixel_size_comes_from_is_no_part_of_the_data(source, nominal, data):
    before = DataFolder(data).sha256
    found = state_spacing(data, source)
    assert (found.nominal_spacing, found.sha256) == (nominal, before)
    earlier = state_spacing(data, "")
    assert earlier.sha256 == before
    content = json.loads((data / "dataset.json").read_text())
    content["test"][0]["image_sha256"] = "another image"
    (data / "dataset.json").write_text(json.dumps(content, indent=2) + "\n")
    assert DataFolder(data).sha256 != before


def test_an_unknown_source_of_the_pixel_size_is_refused(data):
    with pytest.raises(InputError, match="expected spacing header, standard of the set, assumed or none, got 'guess'"):
        state_spacing(data, "guess")


def test_one_pixel_size_for_all_subjects_of_an_earlier_folder_is_nominal(data):
    assert state_spacing(data, "").nominal_spacing
    content = json.loads((data / "dataset.json").read_text())
    content["test"][0]["spacing_mm"][0] += 0.01
    (data / "dataset.json").write_text(json.dumps(content))
    assert not DataFolder(data).nominal_spacing
