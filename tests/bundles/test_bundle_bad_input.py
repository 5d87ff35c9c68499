"""Refuse unusable input with one line that names the problem, its place and its remedy, and without partial results."""

import gzip
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from running import TRAINED_EPOCHS, refusal, run_bundle, run_here


def runs(tiny):
    """List everything in the folder of runs."""
    return sorted(path.name for path in Path(tiny["runs_dir"]).rglob("*"))


def edit(data, change):
    path = data / "dataset.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"max_epoch": 1}, ["--max_epoch:", "--max_epochs?"]),
        ({"batchsize": 1}, ["--batchsize:", "--batch_size?"]),
        ({"l": 1}, ["--l:"]),
        ({"zzz": 1}, ["--zzz:", "Keys to override: ", "image_size"]),
        (
            {"train__trainer__max_epoch": 3},
            ["--train#trainer#max_epoch: SupervisedTrainer", "--train#trainer#max_epochs?", "train_data_loader"],
        ),
        ({"network_def__padding": "reflect"}, ["--network_def#padding:", "--network_def#padding_mode?", "conv_bias"]),
        ({"train__optimiser": 1}, ["--train#optimiser: this section", "--train#optimizer?", "dataloader, "]),
        ({"steps__degrade__sead": 1}, ["--steps#degrade#sead", "#degrade#seed?", "quantise"]),
        ({"pe_alpha": -1}, ["pe_alpha", "-1", "above 0"]),
        ({"pe_alpha": 0}, ["pe_alpha", "above 0"]),
        ({"pe_range": "both"}, ["pe_range", "'both'", "symmetric"]),
        ({"padding_mode": "mirror"}, ["padding_mode", "'mirror'", "reflect"]),
        ({"image_size": 0}, ["--image_size: expected an integer from 8 to 16384, got 0"]),
        ({"image_size": "big"}, ["--image_size: expected an integer", "got 'big'"]),
        ({"resume": "false"}, ["--resume: expected True or False", "got 'false'"]),
        ({"lr": 0}, ["--lr: expected", "above 0", "got 0"]),
        ({"batch_size": 0}, ["--batch_size: expected", "got 0"]),
        ({"val_interval": 0}, ["--val_interval: expected", "got 0"]),
        ({"run_name": "../up"}, ["run_name", "'../up'", "letters"]),
        ({"run_name": ".hidden"}, ["run_name", "'.hidden'"]),
        ({"run_name": "a/b"}, ["run_name", "'a/b'"]),
        ({"dataset_dir": "/nowhere/at-all"}, ["/nowhere/at-all/dataset.json", "no such file"]),
        ({"resume": True}, ["resume", "no fitting run"]),
        ({"resume": True, "run_name": "b"}, ["resume", "b does not exist", "none"]),
        ({"checkpoint": "model.pt"}, ["checkpoint", "evaluations"]),
    ],
    ids=str,
)
def test_bad_override(override, words, tiny):
    message = refusal("jsrt_small_pe", **{**tiny, **override})
    assert [word for word in words if word not in message] == []
    assert runs(tiny) == []


def test_image_size_that_the_unet_cannot_take(tiny):
    message = refusal("jsrt", **{**tiny, "image_size": 100})
    for word in ("image_size 100", "multiples of 16", "96 x 96", "112 x 112"):
        assert word in message
    assert runs(tiny) == []


def test_the_process_ends_with_one_line_and_an_error_code(tiny, tmp_path):
    done = run_bundle("jsrt_small", cwd=tmp_path, **{**tiny, "max_epoch": 3})
    assert done.returncode == 1
    assert done.stderr.startswith("error: override --max_epoch: ")
    assert "did you mean --max_epochs?" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stdout
    assert list(tmp_path.rglob("*.pt")) == runs(tiny) == []


def test_a_named_folder_without_data_is_never_replaced_by_phantoms(tiny, tmp_path):
    refusal("jsrt_small", bundle_root=str(tmp_path), **{**tiny, "dataset_dir": str(tmp_path / "missing")})
    assert [path for path in tmp_path.iterdir() if path.name != "runs"] == []


def test_a_finished_run_is_not_overwritten(run_of, tiny):
    before = {path: path.stat().st_mtime_ns for path in run_of.rglob("*")}
    message = refusal("jsrt_small_pe", run_name="a", **tiny)
    assert "exists and is finished" in message
    assert "--run_name" in message
    message = refusal("jsrt_small_pe", run_name="a", resume=True, **tiny)
    assert "is finished" in message
    assert {path: path.stat().st_mtime_ns for path in run_of.rglob("*")} == before


def test_an_unfinished_run_is_resumed_only_on_request_and_with_the_same_values(run_of, tiny):
    (run_of / "summary.json").unlink()
    message = refusal("jsrt_small_pe", run_name="a", **tiny)
    assert "--resume True" in message
    message = refusal("jsrt_small_pe", run_name="a", resume=True, lr=0.1, **{**tiny, "max_epochs": TRAINED_EPOCHS})
    assert "lr was 0.001, is 0.1" in message
    assert not (run_of / "summary.json").exists()


def test_evaluating_an_untrained_run(run_of, tiny):
    message = refusal("jsrt_small", entry="evaluate", **tiny)
    assert "no fitting run" in message
    (run_of / "model.pt").unlink()
    message = refusal("jsrt_small_pe", entry="evaluate", run_name="a", **tiny)
    assert "no model.pt" in message
    message = refusal("jsrt_small_pe", entry="evaluate", run_name="b", **tiny)
    assert "runs of this bundle: a" in message
    message = refusal("jsrt_small_pe", entry="evaluate", checkpoint="/no/model.pt", **tiny)
    assert "'/no/model.pt' does not exist" in message
    assert not list(run_of.glob("evaluate"))


class Code:
    """Create a folder when unpickled, as an attacker's code might."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("entry", ["evaluate", "robustness", "shift"])
def test_a_checkpoint_with_code_is_refused_and_the_code_not_run(entry, tiny, tmp_path):
    mark = tmp_path / "mark"
    for save in (torch.save, lambda state, path: Path(path).write_bytes(pickle.dumps(state))):
        save({"score.weight": Code(mark)}, tmp_path / "evil.pt")
        message = refusal("jsrt_small_pe", entry=entry, checkpoint=str(tmp_path / "evil.pt"), **tiny)
        assert "evil.pt" in message
        assert "run code" in message
    assert not mark.exists()
    assert runs(tiny) == []
    pickle.loads(pickle.dumps(Code(mark)))
    assert mark.exists()  # the code would have done it


@pytest.mark.parametrize("name", ["jsrt_small", "jsrt_pe"])
def test_checkpoint_of_another_network(name, trained, tiny):
    message = refusal(name, entry="evaluate", checkpoint=str(trained / "model.pt"), **tiny)
    assert "model.pt" in message
    assert "those of another network" in message
    assert "first" in message
    assert "evaluate it with the bundle" in message
    assert runs(tiny) == []


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated_checkpoint(kept, trained, tiny, tmp_path):
    whole = (trained / "model.pt").read_bytes()
    (tmp_path / "part.pt").write_bytes(whole[: int(kept if kept > 1 else kept * len(whole))])
    message = refusal("jsrt_small_pe", entry="evaluate", checkpoint=str(tmp_path / "part.pt"), **tiny)
    assert "part.pt" in message
    assert "truncated" in message
    assert runs(tiny) == []


def test_checkpoint_that_is_one_tensor(tiny, tmp_path):
    torch.save(torch.zeros(3), tmp_path / "one.pt")
    assert "expected a state dict" in refusal(
        "jsrt_small_pe", entry="evaluate", checkpoint=str(tmp_path / "one.pt"), **tiny
    )


def test_damaged_state_to_resume_from(run_of, tiny):
    (run_of / "summary.json").unlink()
    again = {"run_name": "a", "resume": True, **tiny, "max_epochs": TRAINED_EPOCHS + 1}
    state = torch.load(run_of / "resume.pt", weights_only=True)
    torch.save({key: value for key, value in state.items() if key != "epoch"}, run_of / "resume.pt")
    message = refusal("jsrt_small_pe", **again)
    assert "resume.pt" in message
    assert "'epoch'" in message
    (run_of / "resume.pt").write_bytes(b"")
    assert "truncated" in refusal("jsrt_small_pe", **again)


# --- prepared data ---------------------------------------------------------------------------------------------------


def test_malformed_dataset_json(data, tiny):
    tiny["dataset_dir"] = str(data)
    whole = (data / "dataset.json").read_text()
    for text, words in {
        "": "can't be read as JSON",
        whole[:-20]: "can't be read as JSON",
        "[]": "expected a JSON object, got list",
        "{}": "lacks schema_version",
        whole.replace('"schema_version": 1', '"schema_version": 2'): "expected schema_version 1, got 2",
    }.items():
        (data / "dataset.json").write_text(text)
        message = refusal("jsrt_small", **tiny)
        assert str(data / "dataset.json") in message
        assert words in message
        assert "data_prep" in message
    (data / "dataset.json").write_bytes(b"\xff\xfe\x00")
    assert "can't be read as JSON" in refusal("jsrt_small", **tiny)
    assert runs(tiny) == []


@pytest.mark.parametrize("where", ["../outside.nii.gz", "/etc/passwd", "images/../../outside.nii.gz", "link/x.nii.gz"])
@pytest.mark.parametrize("key", ["image", "label"])
def test_files_outside_the_data_folder(where, key, data, tiny, tmp_path):
    image = next((data / "images").iterdir())
    shutil.copy(image, tmp_path / "outside.nii.gz")
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(image, tmp_path / "elsewhere/x.nii.gz")
    (data / "link").symlink_to(tmp_path / "elsewhere")
    edit(data, lambda content: content["test"][0].update({key: where}))
    message = refusal("jsrt_small", **{**tiny, "dataset_dir": str(data)})
    assert "inside the data folder, got" in message
    assert where in message
    assert runs(tiny) == []


def test_case_name_that_would_write_outside_the_run_folder(data, tiny):
    edit(data, lambda content: content["test"][0].update({"case": "../../../x"}))
    message = refusal("jsrt_small", **{**tiny, "dataset_dir": str(data)})
    assert "'../../../x'" in message


def test_empty_split(data, tiny):
    edit(data, lambda content: content.update(validation=[]))
    message = refusal("jsrt_small", **{**tiny, "dataset_dir": str(data)})
    assert "at least one subject in the validation split, got none" in message
    assert runs(tiny) == []


def spoil_gzip(path):
    path.write_bytes(path.read_bytes()[:-200])


def spoil_header(path):
    path.write_bytes(gzip.compress(b"no NIfTI at all" * 100))


def spoil_shape(path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((64, 128, 1), np.uint8), np.eye(4)), path)


def spoil_values(path):
    image = nibabel.load(path)
    values = image.get_fdata(dtype=np.float32)
    values[5, 5] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, image.affine), path)


@pytest.mark.parametrize("split", ["training", "validation", "test"])
@pytest.mark.parametrize(
    ("kind", "spoil", "words"),
    [
        ("image", spoil_gzip, "can't be decoded"),
        ("label", spoil_gzip, "can't be decoded"),
        ("image", spoil_header, "can't be decoded"),
        ("image", Path.unlink, "is missing"),
        ("label", spoil_shape, "expected one shape"),
        ("image", spoil_shape, "expected one shape"),
        ("image", spoil_values, "NaN"),
    ],
)
def test_damaged_file(kind, spoil, words, split, data, tiny):
    case = json.loads((data / "dataset.json").read_text())[split][0]
    spoil(data / case[kind])
    message = refusal("jsrt_small", **{**tiny, "dataset_dir": str(data)})
    assert Path(case[kind]).name in message
    assert words in message
    assert "python -m data_prep" in message
    assert runs(tiny) == []


# --- the disk --------------------------------------------------------------------------------------------------------


def test_disk_full_while_the_model_is_written(tiny, tmp_path):
    """Stop the writing in the middle by a limit on file size, as a full disk does."""
    limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
    limit += "sys.argv = sys.argv[2:]; runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)"
    done = run_bundle("jsrt_small", run_name="a", cwd=tmp_path, launcher=(sys.executable, "-c", limit), **tiny)
    assert done.returncode == 1
    assert done.stderr.startswith("error: "), done.stderr
    assert "model.pt: can't be written" in done.stderr
    assert "make room on the disk" in done.stderr
    assert done.stderr.count("\n") == 1
    run = Path(tiny["runs_dir"]) / "jsrt_small/a"
    left = {"config.json", "environment.json", "data.json", "training_cases.csv", "log.txt", "tensorboard"}
    assert {path.name for path in run.iterdir()} == left
    # With space again, the run can be resumed.
    run_here("jsrt_small", run_name="a", resume=True, **tiny)
    assert (run / "summary.json").exists()


def test_folder_of_runs_that_is_a_file(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    message = refusal("jsrt_small", **{**tiny, "runs_dir": str(tmp_path / "file")})
    assert "can't be made" in message
    assert "--runs_dir" in message
