"""Run the notebooks from the first cell to the last on phantoms; they are stored without output."""

import os

import nbformat
import pytest
from running import ROOT, leave_to_torture

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_four():
    assert [path.stem for path in NOTEBOOKS] == ["01_first_run", "02_degradation", "03_position", "04_upsampling"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_output(path):
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", leave_to_torture(NOTEBOOKS, NOTEBOOKS[1:]), ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    book = nbformat.read(path, 4)
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = [str(output) for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    # A command that fails says so, but doesn't stop a notebook.
    assert [text for text in texts if "error:" in text or "Traceback" in text] == []
    assert list(tmp_path.glob("work/runs/jsrt_*/first/metrics.csv"))
    assert any("image/png" in text for text in texts)
