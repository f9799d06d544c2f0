"""history.csv: read back exactly, and refused in one line when it is something else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet import Epoch, ModelError
from xpnet.training.history import read_history, write_history

numbers = st.floats(allow_nan=False, allow_infinity=False)
EPOCHS = st.builds(
    Epoch,
    epoch=st.integers(1, 10**6),
    **dict.fromkeys(("train_loss", "train_accuracy", "learning_rate", "seconds", "samples_per_second"), numbers),
    **{f"{split}_{kind}": st.none() | numbers for split in ("validation", "test") for kind in ("loss", "accuracy")},
)


@given(st.lists(EPOCHS, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, history: list[Epoch]) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_history(folder / "history.csv", history)
    assert read_history(folder) == read_history(folder / "history.csv") == history


HEAD = (
    "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,test_loss,test_accuracy,learning_rate,"
    "seconds,samples_per_second\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not the history of a run: its first line must be epoch,train_loss"),
        ("a,b\n1,2\n", "is not the history of a run"),
        (HEAD + "1,2\n", "is damaged: line 2 does not hold the figures of an epoch"),
        (HEAD + "1,1,1,,,,,1,1,1\n2,x,1,,,,,1,1,1\n", "is damaged: line 3"),
        (HEAD + "1.5,1,1,,,,,1,1,1\n", "is damaged: line 2"),
        (HEAD + "1,,1,,,,,1,1,1\n", "is damaged: line 2"),
        (HEAD + "\0\n", "is damaged|cannot read"),
    ],
)
def test_what_is_no_history(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ModelError, match=message) as caught:
        read_history(tmp_path)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="holds a model without the history of its training, such as one that was"):
        read_history(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"history\.csv: no such file; name a run directory"):
        read_history(tmp_path)
    (tmp_path / "history.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"cannot read .*history\.csv: "):
        read_history(tmp_path)
