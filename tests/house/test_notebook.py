"""docs/mnist.ipynb runs from end to end."""

from pathlib import Path

import pytest

import xpnet

NOTEBOOK = Path(__file__).parents[2] / "docs" / "mnist.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_from_end_to_end(mnist: xpnet.Dataset, tmp_path: Path) -> None:
    """In an empty directory, and what it shows is what it promises: its five pictures, and 97 % or better."""
    reason = "needs nbclient, ipykernel and matplotlib: pip install '.[plot]' --group notebook"
    for package in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(package, reason=reason)
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    assert "the same gradients, bit by bit" in text
    shares = [float(line.split(" %")[0]) for line in text.splitlines() if "are classified correctly" in line]
    assert shares[0] >= 97.0
    assert not list(tmp_path.iterdir())
