"""Give bundles, overlays and files of arguments in YAML, wherever a bundle is read."""

import json
import subprocess
import sys

import pytest
import yaml
from running import BUNDLES, ENVIRONMENT, at, config_file, refusal, run_bundle, run_here
from typer.testing import CliRunner

from medpos.__main__ import app
from medpos.core.errors import InputError
from medpos.predict.model import Model
from medpos.study import declaration
from medpos.study.models import resolve_configuration

EXAMPLE = BUNDLES / "chest_example.yaml"


def written(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_bundle_in_yaml_leaves_the_same_run(tiny, tmp_path):
    same = json.loads((BUNDLES / "jsrt_small.json").read_text())
    bundle = written(tmp_path / "jsrt_small.yaml", same)
    one = run_here("jsrt_small", **tiny, run_name="json")
    other = run_here(bundle, **tiny, run_name="yaml")
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    assert (one / "model.pt").read_bytes() == (other / "model.pt").read_bytes()
    configs = [{**json.loads((run / "config.json").read_text()), "run_name": ""} for run in (one, other)]
    assert configs[0] == configs[1]


def test_overlays_and_a_file_of_arguments(tiny, prepared, tmp_path):
    """In YAML and JSON together, the last one wins, and the command line wins over the file."""
    overlay = written(
        tmp_path / "sgd.yaml",
        'train::optimizer:\n  _target_: torch.optim.SGD\n  params: "$@network.parameters()"\n  lr: "@lr"\n',
    )
    arguments = {
        "config_file": config_file("jsrt_small", overlay, written(tmp_path / "wide.json", json.dumps({"lr": 0.5}))),
        **{key: value for key, value in tiny.items() if key != "max_epochs"},
        "train#trainer#max_epochs": 1,
        "seed": 3,
        "run_name": "by_file",
    }
    file = written(tmp_path / "arguments.yaml", arguments)
    command = [sys.executable, "-m", "monai.bundle", "run", "--args_file", str(file), "--seed", "4"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    config = json.loads((tmp_path / "runs/jsrt_small/by_file/config.json").read_text())
    assert at(config, "train::optimizer::_target_") == "torch.optim.SGD"
    assert (config["lr"], config["seed"], at(config, "train::trainer::max_epochs")) == (0.5, 4, 1)


def test_a_bundle_needs_no_key_that_it_does_not_use(prepared, tmp_path):
    """A bundle of the user's own, without bf16, begins without the keys of speed that ours have."""
    content = yaml.safe_load(EXAMPLE.read_text())
    del content["amp"], content["inferer"]["amp"]
    content["train"]["trainer"].pop("amp", None)
    assert not {"amp", "num_workers", "compile", "deterministic", "device_memory_gb"} & set(content)
    bundle = written(tmp_path / "own.yaml", yaml.safe_dump(content, sort_keys=False).replace("'@amp'", "false"))
    options = {"dataset_dir": str(prepared["jsrt"]), "runs_dir": str(tmp_path / "runs"), "image_size": 32}
    run = run_here(bundle, **options, run_name="a", max_epochs=1)
    assert (run / "metrics.csv").is_file()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr: 1e-3\n", "line 1: expected a number, got 1e-3"),
        ("seed: 1\nlr: 0.1\nseed: 2\n", "line 3: the key seed stands in line 1 already"),
        ("seed: 1\namp: off\n", "line 2: expected true or false, got off"),
        ("run_name: 2026-01-31\n", "line 1: expected a number or text"),
        ("device: $torch.device('cpu'\n", "line 1: expected a complete expression"),
        ("max_epoch: 3\n", "did you mean"),
    ],
)
def test_what_monai_takes_silently_stops_a_run_in_one_line(text, words, tiny, tmp_path):
    overlay = written(tmp_path / "mine.yaml", text)
    assert words in refusal("jsrt_small", overlay, **tiny)
    result = CliRunner().invoke(app, ["bundles", "check", str(BUNDLES / "jsrt_small.json"), str(overlay)])
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "lr: @x\n", "a: %x\n", "a: $x: 1\n"])
def test_what_monai_itself_refuses_is_explained_by_check(text, tmp_path):
    """MONAI reads a file before medpos is there: its traceback ends with file and line."""
    overlay = written(tmp_path / "mine.yaml", text)
    result = CliRunner().invoke(app, ["bundles", "check", str(overlay)])
    assert isinstance(result.exception, InputError)
    assert f"{overlay}, line" in str(result.exception)
    with pytest.raises(yaml.YAMLError, match=r'in ".*mine.yaml", line \d'):
        run_here("jsrt_small", overlay, runs_dir=str(tmp_path))


def test_the_example_trains_and_predicts(tiny_without_lights):
    run = run_here(EXAMPLE, **tiny_without_lights)
    assert (run / "metrics.csv").is_file()
    assert Model(run, device="cpu").input_shape == (3, 32, 32)


def test_commands_take_the_example(tmp_path):
    def shown(*arguments):
        result = CliRunner().invoke(app, list(arguments))
        assert result.exception is None, result.exception
        return result.output

    assert "chest_example" in shown("bundles", "list")
    for name in ("chest_example", "chest_example.yaml", str(EXAMPLE)):
        assert "--pe_alpha" in shown("bundles", "show", name)
    shown("bundles", "copy", "chest_example", "--out", str(tmp_path))
    assert (tmp_path / "chest_example.yaml").read_bytes() == EXAMPLE.read_bytes()
    assert "right; " in shown("bundles", "check", str(tmp_path / "chest_example.yaml"))
    overlay = written(tmp_path / "mine.yaml", "lr: 0.1\n")
    assert "reads well" in shown("bundles", "check", str(overlay))


def test_studies_take_bundles_and_declarations_in_yaml(tiny, tmp_path):
    for ending in ("", "_pe", "_mean_mask"):
        content = json.loads((BUNDLES / f"jsrt_small{ending}.json").read_text()) if ending != "_mean_mask" else None
        content = content or json.loads((BUNDLES / "jsrt_mean_mask.json").read_text())
        written(tmp_path / f"own{ending}.yaml", {**content, "bundle_name": f"own{ending}"})
    study = written(
        tmp_path / "mine.yaml",
        {
            "title": "Mine",
            "paper": "beyond the paper",
            "claim": "Position helps.",
            "data": ["jsrt"],
            "models": [{"name": "plain", "bundle": "{data}{network}"}, {"name": "pe", "bundle": "{data}{network}_pe"}],
        },
    )
    declared = declaration.load(tmp_path, str(study), bundle=tmp_path / "own.yaml")
    assert declared.data == ("own",)
    assert declaration.list_studies(tmp_path) == ["mine", "own", "own_mean_mask", "own_pe"]
    config = resolve_configuration(tmp_path / "own_pe.yaml", {**tiny, "seed": 1})
    assert (config["bundle_name"], config["seed"]) == ("own_pe", 1)
    written(tmp_path / "own_pe.yaml", "lr: 1e-3\n")
    with pytest.raises(InputError, match=r"own_pe.yaml, line 1: expected a number, got 1e-3"):
        resolve_configuration(tmp_path / "own_pe.yaml", {})


@pytest.mark.torture
def test_a_run_of_a_copied_example_in_a_process_of_its_own(tiny_without_lights, tmp_path):
    done = run_bundle(EXAMPLE, cwd=tmp_path, **tiny_without_lights, run_name="first")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "mean of organs" in done.stdout
