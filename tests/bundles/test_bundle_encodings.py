"""Select the position encoding of a bundle by one key; every encoding trains, with the same number of parameters."""

import json

import pytest
import torch
from monai.bundle import ckpt_export
from running import BUNDLES, config_file, kept_state, parser, refusal, run_here

from medpos.networks.position_study.position import count_parameters
from medpos.transforms import ENCODINGS, channel_count

BEYOND = [encoding for encoding in ENCODINGS if encoding != "linear"]
WITH_POSITION = sorted(path.stem for path in BUNDLES.glob("*_pe.json") if path.stem != "metadata_pe")


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        *(("jsrt_small_pe", encoding) for encoding in BEYOND),
        ("acdc_small_pe", "fourier"),  # volumes
        pytest.param("acdc_small_pe", "coordconv", marks=pytest.mark.torture),
        pytest.param("jsrt_pe", "learned", marks=pytest.mark.torture),
        pytest.param("jsrt_pe", "coordconv", marks=pytest.mark.torture),
    ],
)
def test_every_encoding_trains_an_epoch(name, encoding, prepared, tiny):
    tiny |= {"dataset_dir": str(prepared[name[:4]]), "train_cases": 2, "encoding": encoding, "encoding_bands": 3}
    run = run_here(name, **tiny)
    config = json.loads((run / "config.json").read_text())
    assert (config["encoding"], config["encoding_bands"]) == (encoding, 3)
    weights = torch.load(run / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values())
    first = next(value for key, value in weights.items() if value.dim() == 4 and "conv1" in key)
    added = {"learned": 2, "coordconv": 2}.get(encoding, channel_count(encoding, 3))
    assert first.shape[1] == 1 + added
    assert (run / "metrics.csv").read_text().count("\n") > 3


def test_evaluation_is_that_of_the_run_and_needs_its_encoding(tiny):
    run = run_here("jsrt_small_pe", encoding="learned", **tiny)
    run_here("jsrt_small_pe", entry="evaluate", encoding="learned", **tiny)
    assert (run / "evaluate/metrics.csv").read_text() == (run / "metrics.csv").read_text()
    message = refusal("jsrt_small_pe", entry="evaluate", encoding="radial", **tiny)
    assert "the bundle and the --encoding that it was trained with" in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"encoding": "polar"}, ["got 'polar'", "linear, radial, fourier, learned, coordconv"]),
        ({"encoding": "fourier", "encoding_bands": 0}, ["--encoding_bands: expected", "1 to 16", "got 0"]),
        ({"encoding": "fourier", "encoding_bands": 17}, ["encoding_bands", "17", "1 to 16"]),
        ({"encoding": "fourier", "encoding_bands": 6}, ["encoding_bands", "at most 5 for 32 px", "got 6"]),
        ({"encodings": "fourier"}, ["--encodings:", "--encoding?"]),
    ],
    ids=str,
)
def test_bad_encoding_is_refused(override, words, tiny):
    message = refusal("jsrt_small_pe", **{**tiny, **override})
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("name", WITH_POSITION)
def test_the_default_is_the_linear_one_in_the_plain_network(name):
    config = parser(name)
    assert (config.get("encoding"), config.get("encoding_bands")) == ("linear", 4)
    network = config.get_parsed_content("network_def")
    assert type(network).__name__ == ("SmallCNN" if "small" in name else "UNet")
    assert network.in_channels == 3
    assert count_parameters(network) == (76_292 if "small" in name else 13_395_524)


@pytest.mark.parametrize("encoding", BEYOND)
def test_padding_alpha_and_range_reach_the_network(encoding):
    config = parser("jsrt_small_pe", encoding=encoding, pe_alpha=0.5, pe_range="positive", padding_mode="reflect")
    network = config.get_parsed_content("network_def")
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size[0] > 1]
    assert {layer.padding_mode for layer in layers} == {"reflect"}
    if encoding == "coordconv":
        assert {(layer.alpha, layer.symmetric) for layer in layers} == {(0.5, False)}
    if encoding == "learned":
        assert network.alpha == 0.5


@pytest.mark.parametrize("encoding", ["fourier", "learned", "coordconv"])
def test_exported_torchscript_equals_the_network(encoding, tmp_path):
    network = parser("jsrt_small_pe", encoding=encoding).get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    with kept_state():
        ckpt_export(
            net_id="network_def",
            filepath=str(tmp_path / "model.ts"),
            ckpt_file=str(tmp_path / "model.pt"),
            meta_file=str(BUNDLES / "metadata_pe.json"),
            config_file=config_file("jsrt_small_pe"),
            key_in_ckpt="",
            use_trace=True,
            input_shape=[1, network.in_channels, 32, 32],
            encoding=encoding,
        )
    exported = torch.jit.load(tmp_path / "model.ts").eval()
    image = torch.randn(2, network.in_channels, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(exported(image), network(image), rtol=1e-5, atol=1e-6)
