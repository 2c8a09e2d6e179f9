"""The example notebook, run by a real kernel as people run it, for a shorter time."""

import shutil
from pathlib import Path

import nbclient
import nbformat
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("quickstart.ipynb", "quickstart.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "home"))
    notebook = nbformat.read(tmp_path / "quickstart.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear the outputs before you commit it"
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert codes[0].source.startswith("EPOCHS = ")
    codes[0].source = "EPOCHS = 0.02"
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    _, _, train, report, _, _ = codes
    assert "'Succeeded'" in train.outputs[-1].data["text/plain"]
    (table,) = [o.data["text/html"] for o in train.outputs if "text/html" in o.get("data", {})]
    assert "100%" in table
    assert "tokens/s" in table
    assert "points of the curve" in report.outputs[0].text
    assert '"curves":{"loss":' in (tmp_path / "report.html").read_text("utf-8")
    assert list((tmp_path / "home" / "jobs").glob("[!.]*")) == []
