import json
import logging
import logging.config
import os
import shutil

import pytest
from running import kept_state

from medpos.core.errors import InputError
from medpos.runs import environment as environments
from medpos.runs import files
from medpos.runs import folder as folders
from medpos.runs.environment import environment
from medpos.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def _logging():
    with kept_state():
        yield


def begin(run, **config):
    run.record(config, "cpu", 7)
    return run


def test_nothing_is_written_before_record(tmp_path):
    run = RunFolder(tmp_path / "runs", "b", "a").create()
    assert not (tmp_path / "runs").exists()
    begin(run, lr=1)
    assert sorted(path.name for path in run.folder.iterdir()) == ["config.json", "environment.json", "log.txt"]
    assert json.loads((run.folder / "config.json").read_text()) == {"lr": 1, "resume": False}
    assert [facts["seed"] for facts in files.Run(run.folder).environments] == [7]


def test_a_run_without_a_name_is_named_by_date_and_time(tmp_path, monkeypatch):
    times = iter(["2026-01-01_00-00-00", "2026-01-01_00-00-01"])
    monkeypatch.setattr(folders.time, "strftime", lambda *_: next(times))
    run = RunFolder(tmp_path, "b").create()
    assert run.folder == run.folder == tmp_path / "b/2026-01-01_00-00-00"


def test_two_runs_that_choose_one_name_at_once(tmp_path):
    one, other = (RunFolder(tmp_path, "b", "a").create() for _ in range(2))
    begin(one, lr=1)
    with pytest.raises(InputError, match="can't be made"):
        begin(other, lr=2)
    assert json.loads((one.folder / "config.json").read_text()) == {"lr": 1, "resume": False}


@pytest.mark.parametrize("name", ["..", "a/b", " a", "-a", ".a", "a b", "ä", "a\n", "/abs"])
def test_names_that_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="run_name"):
        RunFolder(tmp_path, "b", name)


@pytest.mark.parametrize("name", ["a", "1", "first-try_2.5", 7])
def test_names_that_are_taken(name, tmp_path):
    assert RunFolder(tmp_path, "b", name).folder.name == str(name)


def test_resume_and_what_may_change(tmp_path):
    begin(RunFolder(tmp_path, "b", "a").create(), lr=1, max_epochs=3, device="cpu")
    run = RunFolder(tmp_path, "b", "a", resume=True).create()
    begin(run, lr=1, max_epochs=9, device="cuda", new=1)
    with pytest.raises(InputError, match="lr was 1, is 2; resume with the same values"):
        begin(RunFolder(tmp_path, "b", "a", resume=True).create(), lr=2)
    (run.folder / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="is finished"):
        RunFolder(tmp_path, "b", "a", resume=True).create()
    with pytest.raises(InputError, match="no fitting run"):
        RunFolder(tmp_path, "b", resume=True).create()


def test_a_run_killed_before_its_first_file_resumes(tmp_path):
    (tmp_path / "b/a").mkdir(parents=True)
    begin(RunFolder(tmp_path, "b", "a", resume=True).create(), lr=1)
    assert (tmp_path / "b/a/config.json").exists()


def test_open(tmp_path):
    trained = begin(RunFolder(tmp_path, "b", "a").create(), lr=1).folder
    with pytest.raises(InputError, match="no fitting run"):
        RunFolder(tmp_path, "b").open("shift")
    (trained / "model.pt").write_bytes(b"x")
    later = shutil.copytree(trained, trained.with_name("0"))
    os.utime(later / "config.json", (1e9, 1e9))
    run = RunFolder(tmp_path, "b").open("shift")
    assert (run.folder, run.results, run.model) == (trained, trained / "shift", trained / "model.pt")
    begin(run, lr=2)
    assert json.loads((trained / "config.json").read_text()) == {"lr": 1, "resume": False}  # the training's own stays
    assert json.loads((trained / "shift/config.json").read_text()) == {"lr": 2, "resume": False}
    other = RunFolder(tmp_path, "b", "new", checkpoint=str(trained / "model.pt")).open("shift")
    assert (other.model, other.results) == (trained / "model.pt", tmp_path / "b/new/shift")
    with pytest.raises(InputError, match=r"exists; continue it"):
        RunFolder(tmp_path, "b", "a", checkpoint=str(trained / "model.pt")).open("shift")


def test_log_follows_the_run(tmp_path):
    first, second = (begin(RunFolder(tmp_path, "b", name).create()) for name in ("a", "c"))
    logging.getLogger("medpos.test").info("only here")
    assert "only here" not in (first.folder / "log.txt").read_text()
    assert "only here" in (second.folder / "log.txt").read_text()


def test_a_log_that_others_closed_and_removed_is_said_once(tmp_path, capfd):
    run = begin(RunFolder(tmp_path, "b", "a").create())
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})  # closes all handlers, as MLflow does
    shutil.rmtree(run.folder)
    for _ in range(2):
        logging.getLogger("medpos.test").info("nowhere")
    assert capfd.readouterr().err.count(f"{run.folder / 'log.txt'}: can't be written ([Errno 2]") == 1


def test_the_log_of_a_program_that_uses_medpos_stays(tmp_path):
    own = logging.FileHandler(tmp_path / "own.txt")
    logging.getLogger().addHandler(own)
    try:
        begin(RunFolder(tmp_path, "b", "a").create())
        logging.getLogger("medpos.test").info("in both")
    finally:
        logging.getLogger().removeHandler(own)
        own.close()
    assert "in both" in (tmp_path / "own.txt").read_text()


def test_environment(monkeypatch):
    found = environment("cpu", 3)
    assert found["seed"] == 3
    assert found["device"]["type"] == "cpu"
    assert set(found["packages"]) >= {"medpos", "monai", "torch"}
    json.dumps(found, allow_nan=False)
    monkeypatch.setenv("PATH", "")
    assert environment("cpu", 3)["commit"] is None  # no git
    assert environments._version("no-such-package") is None
