"""Run studies from plan to page: trained once, found again, killed and resumed, the same on both engines."""

import csv
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from running import BUNDLES, ENVIRONMENT, run_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from medpos import __main__ as cli
from medpos.core.errors import InputError
from medpos.data.cached import CachedDataset
from medpos.report import build
from medpos.study import declaration, results
from medpos.study.engines import LocalEngine, RayEngine
from medpos.study.jobs import Job, Outcome, execute
from medpos.study.models import compute_identity
from medpos.study.plan import Planner, Settings
from medpos.study.run import DECODED, Watcher, run

STUDY = {
    "title": "A study of the tests",
    "paper": "none",
    "claim": "Position helps.",
    "data": ["jsrt"],
    "network": "small",
    "models": [
        {"name": "small CNN", "bundle": "{data}_small"},
        {"name": "with position", "bundle": "{data}_small_pe", "choose": {"pe_alpha": [1.0, 3.0]}},
        {"name": "mean mask", "bundle": "{data}_mean_mask", "seeds": [0]},
    ],
    "seeds": [0, 1],
    "conditions": ["degradations"],
    "figures": ["severity", "bars", "variance"],
    "criteria": [
        {"text": "position helps", "model": "with position", "minus": "small CNN", "at_least": 0.0, "margin": 0.05},
        {
            "text": "noise hurts",
            "model": "small CNN",
            "conditions": "noise",
            "minus_conditions": "clean",
            "at_most": 0.0,
        },
    ],
}
SIZES = {"image_size": 32, "batch_size": 5, "max_epochs": 2}


def declared(folder, **changes):
    path = folder / "mine.json"
    path.write_text(json.dumps({**STUDY, **changes}))
    return declaration.load(BUNDLES / "studies", str(path))


def settings(prepared, folder, **more):
    return Settings(BUNDLES, {**SIZES, **more}, {"jsrt": str(prepared["jsrt"])}, str(folder / "runs"), folder / "logs")


class _Here:
    """Run the jobs one after the other in this process."""

    def run(self, jobs, started, until=math.inf):
        for job in jobs:
            started(job)
            yield execute(job)


HERE = _Here()


class Witness(Watcher):
    def __init__(self):
        self.trained = []

    def started(self, job):
        if job.train:
            self.trained.append(job.name)


def complete(prepared, folder, engine=None, **changes):
    witness = Witness()
    study = declared(folder, **changes)
    engine = engine or LocalEngine(2, 1)
    content = run(study, settings(prepared, folder), engine, folder / "out", "the command", witness)
    return content, witness


def metrics(folder):
    """Read every table below a folder of runs, by bundle and run."""
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.glob("runs/*/*/metrics.csv"))}


@pytest.fixture(scope="module")
def done(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    content, witness = complete(prepared, folder)
    return folder, content, witness


def test_each_model_is_trained_once(done):
    folder, content, witness = done
    assert len(witness.trained) == len(set(witness.trained)) == 2 + 3 + 1  # two seeds; two alphas and a seed; one mask
    assert content["failed"] == []
    assert not (folder / "out" / DECODED).exists()
    assert {(m["model"], m["seed"]) for m in content["models"]} == {
        ("small CNN", 0),
        ("small CNN", 1),
        ("with position", 0),
        ("with position", 1),
        ("mean mask", 0),
    }


def test_the_variance_of_dice_is_decomposed(done):
    folder, content, _ = done
    [table] = [t for t in content["tables"] if "parts of the variance" in t["title"]]
    with (folder / "out/variance.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row[1] for row in table["rows"]] == [row["term"] for row in rows]
    clean = [row for row in rows if row["conditions"] == "clean"]
    assert [row["term"] for row in clean] == [
        "position",
        "subject",
        "seed",
        "factors x subject",
        "factors x seed",
        "rest",
    ]
    assert sum(float(row["share"]) for row in clean) == pytest.approx(1)
    assert {row["conditions"] for row in rows} == {"clean", "Gaussian noise", "Gaussian blur", "shot noise"}


def test_cases_are_decoded_once_for_all_models(prepared, tmp_path, monkeypatch):
    decoded, decode = [], CachedDataset._decode
    monkeypatch.setattr(CachedDataset, "_decode", lambda self, case: decoded.append(case["case"]) or decode(self, case))
    content, witness = complete(prepared, tmp_path, HERE, models=STUDY["models"][:1], criteria=[], figures=[])
    assert content["failed"] == []
    assert len(witness.trained) == 2
    assert len(decoded) == len(set(decoded)) > 0


def test_the_best_on_the_validation_split_is_chosen_for_every_seed(done):
    _, content, _ = done
    [table] = [t for t in content["tables"] if t["title"].startswith("Chosen")]
    best = max(table["rows"], key=lambda row: float(row[4]))
    assert best[5] == "yes"
    assert [row[5] for row in table["rows"]].count("yes") == 1
    assert {m["chosen"].get("pe_alpha") for m in content["models"] if m["model"] == "with position"} == {best[3]}


def test_all_cases_are_kept_and_numbers_agree_with_the_runs(done):
    folder, content, _ = done
    with (folder / "out/per_case.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 5 * 16 * 2 * 3  # models and seeds, conditions, cases, organs
    model = content["models"][0]
    summary = json.loads((folder / "out" / model["run"] / "summary.json").read_text())
    own = [r for r in rows if (r["model"], r["seed"]) == (model["model"], str(model["seed"]))]
    heart = [float(r["dice"]) for r in own if r["organ"] == "heart" and r["severity"] == "0"]
    assert sum(heart) / len(heart) == pytest.approx(summary["conditions"][0]["organs"]["heart"]["dice"]["mean"])
    names = [f["name"] for f in content["figures"]]
    assert names == [
        *("forest_jsrt", "models_severity_jsrt", "models_bars_jsrt"),
        *("differences_severity_jsrt", "variance_jsrt"),
    ]
    for figure in content["figures"]:
        assert (folder / f"out/figures/{figure['name']}.svg").stat().st_size > 1000


def test_criteria_have_their_design(done):
    folder, content, _ = done
    assert content["design"]["family"] == content["design"]["measured"] == 2
    helps, hurts = content["criteria"]
    assert helps["margin"] == 0.05
    assert 0 <= helps["power"] <= 1
    assert helps["seeds"] == 2
    assert [len(c["parts"]) for c in (helps, hurts)] == [1, 10]
    assert {o["organ"] for o in helps["organs"]} == {"heart", "left_lung", "right_lung"}
    assert not {"p", "p_holm"} & set(content["comparisons"][0])
    page = build([folder / "out"], folder / "page").read_text()
    for words in (
        "Family: the 2 primary criteria",
        "for a margin of 0.05",
        "Its 10 parts",
        "Gaussian noise, severity 1",
    ):
        assert words in page


def test_tensorboard_shows_the_settings_of_every_model(done):
    folder, content, _ = done
    boards = list((folder / "out/tensorboard").iterdir())
    assert len(boards) == len(content["models"])
    for board in boards:
        events = EventAccumulator(str(board)).Reload()
        assert {"_hparams_/session_start_info", "_hparams_/experiment"} <= set(events.PluginTagToContent("hparams"))
        [run] = [path for path in folder.glob("runs/*/*/") if f"{path.parent.name}_{path.name}" == board.name]
        clean = json.loads((run / "summary.json").read_text())["conditions"][0]
        # HPARAMS shows the last value, the mean over all cases.
        last = {tag: events.Scalars(tag)[-1].value for tag in ("test/mean_dice", "test/dice/heart")}
        wanted = clean["mean_foreground_dice"]["mean"], clean["organs"]["heart"]["dice"]["mean"]
        assert list(last.values()) == pytest.approx(wanted)
        assert [event.step for event in events.Scalars("test/shot_noise/mean_dice")] == list(range(6))
        assert "PHANTOM DATA" in str(events.Tensors("test/results/text_summary")[0].tensor_proto.string_val[0])


def test_results_without_a_choice_leave_its_candidates_out(done, prepared, tmp_path):
    """A budget may end when some candidates are trained; they are no seeds of one model."""
    shutil.copytree(done[0] / "runs", tmp_path / "runs")
    models = [STUDY["models"][0], {**STUDY["models"][1], "choose": {"pe_alpha": [1.0, 3.0, 7.0]}}]
    study = declared(tmp_path, models=models)
    content = run(study, settings(prepared, tmp_path), HERE, tmp_path / "out", "the command", Watcher(), until=0)
    assert {m["model"] for m in content["models"]} == {"small CNN"}
    assert content["left"] == 1
    assert next(c["verdict"] for c in content["criteria"]) == "not measured"


def test_nothing_is_trained_twice(done, prepared, tmp_path):
    folder, content, _ = done
    again, witness = complete(prepared, folder)
    assert witness.trained == []
    assert {**again, "created": ""} == {**content, "created": ""}
    # Another study finds the same models, and a longer training of them is another model.
    other = Planner(declared(tmp_path, models=STUDY["models"][:1], criteria=[]), settings(prepared, folder))
    assert other.plan().jobs == ()
    longer = Planner(
        declared(tmp_path, models=STUDY["models"][:1], criteria=[]), settings(prepared, folder, max_epochs=3)
    )
    assert [job.train for job in longer.plan().jobs] == [True, True]


def test_other_conditions_are_only_tested(done, prepared, tmp_path):
    shutil.copytree(done[0], tmp_path / "copy")
    planner = Planner(
        declared(tmp_path, models=STUDY["models"][:1], criteria=[], conditions=["shifts"]),
        settings(prepared, tmp_path / "copy"),
    )
    jobs = planner.plan().jobs
    assert [(job.train, job.conditions) for job in jobs] == [(False, ("shifts",))] * 2


def test_shifts_are_judged_against_the_clean_prediction_moved_unchanged(done, prepared, tmp_path):
    shutil.copytree(done[0], tmp_path / "copy")
    moved = "mean mask, clean prediction moved"
    lost = {"text": "loses more than what leaves the frame", "model": "mean mask", "minus": moved, "at_most": 0.0}
    shifts = {"models": STUDY["models"][2:], "conditions": ["shifts"], "figures": ["shift"]}
    study = declared(tmp_path, **shifts, criteria=[{**lost, "conditions": "shifted"}])
    chosen = settings(prepared, tmp_path / "copy", shift_pixels=[8])
    content = run(study, chosen, HERE, tmp_path / "out", "the command", Watcher())
    [finding] = content["criteria"]
    assert finding["value"] < -0.1  # the mean mask stays where it was, its image moves
    with (tmp_path / "out/per_case.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["model"] == moved]
    assert {row["shift"] for row in rows} == {"x+8", "x-8", "y+8", "y-8"}
    assert "dotted: clean prediction moved" in (tmp_path / "out/figures/models_shift_jsrt.svg").read_text()
    # An evaluation of an earlier version, without the reference, is made again.
    [path] = (tmp_path / "copy").glob("runs/jsrt_mean_mask/*/evaluate/moved_predictions.csv")
    assert Planner(study, chosen).plan().jobs == ()
    path.unlink()
    assert [job.conditions for job in Planner(study, chosen).plan().jobs] == [("shifts",)]


def test_a_run_made_by_hand_serves_a_study(prepared, tmp_path):
    run_here(
        "jsrt_small", dataset_dir=str(prepared["jsrt"]), runs_dir=str(tmp_path / "runs"), run_name="by-hand", **SIZES
    )
    planner = Planner(
        declared(tmp_path, models=STUDY["models"][:1], criteria=[], seeds=[0]), settings(prepared, tmp_path)
    )
    [model] = planner.plan().models
    assert model.folder().name == "by-hand"
    assert [job.train for job in planner.plan().jobs] == [False]


def test_identity_depends_only_on_the_training():
    config = {"lr": 1, "device": "cpu", "train": {"loss": 1, "handlers": 2}, "decode": {"_desc_": "a", "x": 1}}
    same = {"lr": 1, "device": "cuda", "train": {"loss": 1, "handlers": 3}, "decode": {"_desc_": "b", "x": 1}}
    assert compute_identity(config) == compute_identity(same)
    for key, value in (("lr", 2), ("train", {"loss": 2}), ("decode", {"x": 2}), ("my_own", 1), ("data_sha256", "a")):
        assert compute_identity(config) != compute_identity({**config, key: value})


def test_a_failed_training_is_named_and_the_others_continue(prepared, tmp_path):
    models = [STUDY["models"][2], {"name": "greedy", "bundle": "{data}_small", "set": {"train_cases": 99}}]
    content, _ = complete(prepared, tmp_path, HERE, models=models, seeds=[0], criteria=[])
    assert [m["model"] for m in content["models"]] == ["mean mask"]
    [failed] = content["failed"]
    assert failed["name"] == "jsrt: greedy, seed 0"
    assert "train_cases: expected 1 to 5" in failed["error"]


def test_a_job_without_results_is_not_retried_forever(prepared, tmp_path):
    class Idle:
        def run(self, jobs, started, until=math.inf):
            for job in jobs:
                started(job)
                yield Outcome(job.name)

    content, witness = complete(prepared, tmp_path, Idle(), models=STUDY["models"][2:], seeds=[0], criteria=[])
    assert witness.trained == ["jsrt: mean mask, seed 0"]
    [failed] = content["failed"]
    assert "ended without its results" in failed["error"]


def test_an_empty_folder_of_a_killed_run_is_resumed(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(
        name="mean mask",
        bundle=str(BUNDLES / "jsrt_mean_mask.json"),
        folder=str(tmp_path / "runs/jsrt_mean_mask/left"),
        overrides={
            "dataset_dir": str(prepared["jsrt"]),
            "runs_dir": str(tmp_path / "runs"),
            "run_name": "left",
            "image_size": 32,
            "max_epochs": 1,
        },
        conditions=("clean",),
        train=True,
        epochs=1,
        log=str(tmp_path / "log.txt"),
    )
    Path(job.folder).mkdir(parents=True)
    assert execute(job).error == ""
    assert (Path(job.folder) / "summary.json").is_file()


def children(pid):
    """List the processes started by this one with their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found[int(path.name)] = (path / "cmdline").read_bytes().decode()
        except (OSError, ValueError):  # noqa: PERF203 - a process may end meanwhile
            pass
    return found


def kill_one_worker(killed):
    """SIGKILL the first worker process that appears."""
    deadline = time.monotonic() + 60
    while not killed and time.monotonic() < deadline:
        for pid in [pid for pid, line in children(os.getpid()).items() if "spawn_main" in line][:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the worker through /proc")
@pytest.mark.torture
def test_a_killed_worker_is_replaced_and_its_job_resumed(prepared, tmp_path):
    killed = []
    threading.Thread(target=kill_one_worker, args=(killed,)).start()
    content, _ = complete(
        prepared, tmp_path, LocalEngine(1, 1), models=STUDY["models"][2:], seeds=[0], criteria=[], figures=[]
    )
    assert killed
    assert content["failed"] == []
    assert len(content["models"]) == 1


@pytest.mark.torture
def test_a_study_killed_in_the_middle_gives_the_same_results(done, prepared, tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(STUDY))
    command = [sys.executable, "-m", "medpos", "study", "mine.json", "--workers", "2", "--threads", "1"]
    command += [f"--dataset-dir=jsrt={prepared['jsrt']}", *(f"--set={k}={v}" for k, v in SIZES.items())]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/*/resume.pt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not (tmp_path / "out/study.json").exists()
    finished = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert "page: studies/mine/index.html" in finished.stdout
    assert metrics(tmp_path) == metrics(done[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGINT, "Ctrl-C"), pytest.param(signal.SIGTERM, "SIGTERM", marks=pytest.mark.torture)],
)
def test_a_study_that_is_stopped_says_so_and_leaves_no_worker(number, name, prepared, tmp_path):
    """A terminal sends Ctrl-C to all processes of the group, kill sends SIGTERM to one."""
    (tmp_path / "mine.json").write_text(json.dumps(STUDY))
    command = [sys.executable, "-m", "medpos", "study", "mine.json", "--workers", "2", "--set=max_epochs=100000"]
    command += [f"--dataset-dir=jsrt={prepared['jsrt']}", "--set=image_size=32", "--set=batch_size=5"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, start_new_session=True, **pipes)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/*/resume.pt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    workers = [pid for pid, line in children(process.pid).items() if "spawn_main" in line]
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.endswith(f"\nstopped by {name}\n")
    assert "Traceback" not in err
    assert workers
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray, which must not be loaded before medpos, is not installed")
@pytest.mark.torture
def test_ray_gives_bit_identical_results(done, prepared, tmp_path):
    content, _ = complete(prepared, tmp_path, RayEngine("", 2, 1))
    assert content["failed"] == []
    assert metrics(tmp_path) == metrics(done[0])


def invoke(*arguments):
    found = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


@pytest.mark.torture
def test_quiet_shows_only_failures_verdict_and_page(prepared, tmp_path):
    models = [STUDY["models"][2], {"name": "greedy", "bundle": "{data}_small", "set": {"train_cases": 99}}]
    declared(tmp_path, models=models, seeds=[0], criteria=[])
    options = [f"--dataset-dir=jsrt={prepared['jsrt']}", f"--runs-dir={tmp_path / 'runs'}", f"--out={tmp_path / 'out'}"]
    sizes = [f"--set={key}={value}" for key, value in SIZES.items()]
    command = [sys.executable, "-m", "medpos", "--quiet", "study", str(tmp_path / "mine.json"), *options, *sizes]
    found = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path, check=False)
    assert found.returncode == 1
    assert re.search("^jsrt: greedy, seed 0 failed: .*train_cases: expected 1 to 5", found.stderr, re.MULTILINE)
    verdict, page = found.stdout.splitlines()
    assert verdict == "mine: not measured on phantoms"
    assert json.loads((tmp_path / "out/study.json").read_text())["verdict_text"] == "not measured on phantoms"
    assert page == f"page: {tmp_path / 'out/index.html'}"


def test_a_study_of_images_alone_measures_them_and_trains_nothing(prepared, tmp_path):
    out = tmp_path / "figure1"
    options = ["--data", "jsrt", "--dataset-dir", f"jsrt={prepared['jsrt']}", "--set", "image_size=32"]
    shown = invoke("study", "figure1", *options, "--out", str(out)).output
    content = json.loads((out / "study.json").read_text())
    assert "figure1: undecided on phantoms" in shown  # two images decide nothing
    [estimate] = content["criteria"][0]["parts"]
    assert estimate["n"] == 2
    assert content["models"] == []
    assert content["data"][0]["split"] == "test"
    assert (out / "figures/degraded_jsrt.png").is_file()


def test_a_dry_run_lists_the_jobs(done, prepared, tmp_path, monkeypatch):
    shutil.copytree(done[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    options = [f"--dataset-dir=jsrt={prepared['jsrt']}", "--set", "image_size=32", "--set", "batch_size=5", "--dry-run"]
    shown = invoke("study", "mine.json", *options, "--set", "max_epochs=4").output
    assert "5 jobs left" in shown.replace("\n", " ")
    assert "to train" in shown
    assert "not chosen yet on the validation split" in shown.replace("\n", " ")
    assert not list(Path("runs").glob("*/*max_epochs-4*"))
    shown = invoke("study", "mine.json", *options, "--set", "max_epochs=2").output
    assert "0 jobs left" in shown


def test_a_budget_stops_a_study_and_the_next_call_goes_on(done, prepared, tmp_path):
    shutil.copytree(done[0] / "runs", tmp_path / "runs")
    shutil.rmtree(next(tmp_path.glob("runs/jsrt_mean_mask/*")))
    study, witness = declared(tmp_path, figures=[]), Witness()
    content = run(
        study, settings(prepared, tmp_path), HERE, tmp_path / "out", "the command", witness, until=time.monotonic()
    )
    assert (content["left"], content["failed"], witness.trained) == (1, [], [])
    planner = Planner(study, settings(prepared, tmp_path))
    assert not results.is_written(planner, planner.plan(), tmp_path / "out")
    content = run(study, settings(prepared, tmp_path), HERE, tmp_path / "out", "the command", witness)
    assert (content["left"], witness.trained) == (0, ["jsrt: mean mask, seed 0"])
    assert results.is_written(planner, planner.plan(), tmp_path / "out")
    assert not results.is_written(planner, planner.plan(), tmp_path / "elsewhere")


def test_the_end_of_a_budget_ends_a_running_training_which_the_next_call_continues(prepared, tmp_path):
    study = declared(tmp_path, models=STUDY["models"][:1], criteria=[], figures=[])
    long = settings(prepared, tmp_path, max_epochs=2000)
    engine, before = LocalEngine(1, 1), multiprocessing.active_children()
    began = time.monotonic()
    content = run(study, long, engine, tmp_path / "out", "the command", Witness(), until=began + 3)
    assert (content["left"], content["failed"]) == (2, [])
    assert time.monotonic() - began < 60
    assert not any(worker.is_alive() for worker in multiprocessing.active_children() if worker not in before)


def test_all_studies_run_in_their_order_until_the_budget_is_used(tmp_path, monkeypatch, prepared):
    order = declaration.in_order(BUNDLES / "studies")
    assert order[:3] == ["figure2", "figure4", "table1"]
    assert sorted(order) == declaration.list_studies(BUNDLES / "studies")
    monkeypatch.chdir(tmp_path)
    data = f"--dataset-dir=jsrt={prepared['jsrt']}"
    found = invoke("study", "all", "--data=jsrt", data, "--profile=tiny", "--budget=0s").output.splitlines()
    assert found == [f"{name}: not begun in this call" for name in order]
    custom = f"--bundle={BUNDLES / 'jsrt.json'}"
    assert invoke("study", "all", custom, "--budget=0s").output.splitlines() == found
    for option, words in (
        ("--data=acd", "--data: expected data sets among acdc, jsrt, got 'acd'"),
        ("--dataset-dir=x=y", "--dataset-dir: expected data sets among acdc, jsrt, got 'x'"),
        ("--budget=8", "--budget: expected a time such as 90s, 8m or 2h, got '8'"),
        ("--budget=-1m", "--budget: expected a time"),
    ):
        with pytest.raises(InputError, match=words):
            invoke("study", "all", option)


def test_the_command_line_lists_and_refuses():
    assert "figure3" in invoke("study", "list").output
    for arguments, words in (
        (["study", "figure3", "--engine", "slurm"], "expected local or ray"),
        (["study", "figure3", "--set", "lr"], "expected KEY=VALUE"),
        (["study", "figure3", "--seeds", "a"], "expected whole numbers from 0"),
        (["study", "figure3", "--set", "device=cuda:99"], "^--device: expected .*, got 'cuda:99'; .*$"),
        (["report", "nowhere"], "nowhere"),
    ):
        with pytest.raises(InputError, match=words):
            invoke(*arguments)


def test_bad_input_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["medpos", "study", "figure9"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: there is no study 'figure9'")
