"""The C header: compiled without a warning, it gives the network's outputs, whatever the model's texts are."""

import dataclasses
import logging
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from tests.export.models import made, rows_for
from xpnet.data import Scaling, Schema
from xpnet.data.schema import PIXELS
from xpnet.errors import ConfigError, ModelError
from xpnet.export.header import content
from xpnet.export.layers import rounded
from xpnet.numerics.functional import ACTIVATIONS, LOSSES

STRICT = "-std=c99 -Wall -Wextra -Wpedantic -Werror -Wconversion -Wdouble-promotion -Wvla -Wshadow -O2"

DRIVER = """
#include <stdio.h>
#include "{name}.h"
int main(int argc, char **argv) {{
    static {kind} x[{upper}_INPUTS];
    static float y[{upper}_OUTPUTS];
    FILE *in = fopen(argv[argc - 2], "rb"), *out = fopen(argv[argc - 1], "wb");
    if (!in || !out)
        return 1;
    while (fread(x, sizeof x, 1, in) == 1) {{
        int found = {name}_predict(x, y);
        fwrite(y, sizeof y, 1, out);
        fwrite(&found, sizeof found, 1, out);
    }}
    return fclose(in) || fclose(out);
}}
"""


def compiled(header: bytes, folder: Path, u: np.ndarray, name: str = "model") -> tuple[np.ndarray, np.ndarray]:
    """The outputs and what is returned for each row, by one process that gcc has compiled."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc to compile the header")
    kind = "uint8_t" if u.dtype == np.uint8 else "float"
    (folder / f"{name}.h").write_bytes(header)
    (folder / "driver.c").write_text(DRIVER.format(name=name, upper=name.upper(), kind=kind))
    subprocess.run(["gcc", *STRICT.split(), "driver.c", "-o", "driver", "-lm"], cwd=folder, check=True)
    u.tofile(folder / "x")
    subprocess.run([folder / "driver", "x", "y"], cwd=folder, check=True)
    n = len(u)
    raw = np.fromfile(folder / "y", np.uint8).reshape(n, -1)
    return raw[:, :-4].copy().view(np.float32), raw[:, -4:].copy().view(np.int32)[:, 0]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_c_gives_the_same_outputs(activation: str, loss: str, tmp_path: Path) -> None:
    for quantize, dtype, batch_norm in ((None, "float32", True), (None, "float64", False), ("int8", "float32", False)):
        model = made(activation, loss, batch_norm, dtype)
        u = rows_for(model, 200)
        found, position = compiled(content(model, quantize=quantize), tmp_path, u)  # type: ignore[arg-type]
        expected = (rounded(model) if quantize else model).outputs(u)
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * max(1.0, np.abs(expected).max()))
        assert np.array_equal(position, found.argmax(axis=1) if model.task == "classification" else 0 * position)


@pytest.mark.parametrize("sizes", [(6, 3), (6, 1), (5, 4, 3), (4, 9, 7, 8, 6, 1), (2, 1, 1)])
def test_networks_of_any_depth(sizes: tuple[int, ...], tmp_path: Path) -> None:
    for i, features in enumerate((PIXELS, Scaling(), Scaling("minmax", np.arange(sizes[0], dtype=np.float64), 3.0))):
        model = made("tanh", "mse", sizes=sizes, features=features, seed=i)
        u = rows_for(model, 50)
        found, _ = compiled(content(model), tmp_path, u)
        np.testing.assert_allclose(found, model.outputs(u), rtol=0, atol=5e-6)
    floats = u.astype(np.float32)
    found, _ = compiled(content(made(sizes=sizes, features=PIXELS), input="float32"), tmp_path, floats)
    np.testing.assert_allclose(
        found, made(sizes=sizes, features=Scaling("none", None, 255.0)).outputs(floats), atol=5e-6
    )


def test_every_image_of_mnist_has_the_same_class(mnist: xpnet.Dataset, tmp_path: Path) -> None:
    assert mnist.test is not None
    images = mnist.test.images.reshape(-1, 784)
    config = xpnet.TrainConfig(hidden=(32,), epochs=1, device="cpu", batch_size=256)
    model = xpnet.fit(config.network(784, 10), mnist, config).model
    expected = model.outputs(images)
    found, position = compiled(content(model), tmp_path, images)
    assert np.abs(found - expected).max() <= 5e-6
    assert np.array_equal(position, expected.argmax(axis=1))
    _, of_bytes = compiled(content(model, quantize="int8"), tmp_path, images)
    assert np.count_nonzero(of_bytes != position) <= 50
    labels = mnist.test.labels
    assert abs(np.mean(of_bytes == labels) - np.mean(position == labels)) <= 0.002


HOSTILE = [
    "*/ int main(void) { return 1; } /*",
    "**/*/ /*/*",
    "??/\n#error ??'??(",
    "\\",
    "\r\n#include </etc/passwd>\x00\x1b[2J",
    "\u202e\U0001f600é\ud800",
    "%s %n ' \" */",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_the_model_stay_in_their_comment(text: str, tmp_path: Path) -> None:
    columns = tuple(f"{text}{i}" for i in range(6))
    model = made(data=text, classes=(text, text + "*", text + "/"), columns=columns)
    u = rows_for(model, 5)
    header = content(model, about={text: text})
    found, _ = compiled(header, tmp_path, u)
    np.testing.assert_allclose(found, model.outputs(rows_in_order(u, columns)), atol=5e-6)
    first, *rest = re.split(r"/\*.*?\*/", header.decode("ascii"), flags=re.DOTALL)
    plain = re.split(r"/\*.*?\*/", content(made()).decode("ascii"), flags=re.DOTALL)
    assert [first, *rest] == plain


def rows_in_order(u: np.ndarray, columns: tuple[str, ...]) -> Any:
    """The same rows: an array has no names by which it could be put into order."""
    assert u.shape[1] == len(columns)
    return u


@given(st.text())
def test_any_name_becomes_an_identifier(name: str) -> None:
    header = content(made(), name=name).decode("ascii")
    (function,) = re.findall(r"static inline int (\w+)_predict\(", header)
    assert re.fullmatch("[a-z][a-z0-9_]{0,46}", function)
    assert "__" not in function
    assert f"#ifndef XPNET_{function.upper()}_H" in header


@pytest.mark.parametrize(
    ("name", "expected"),
    [("digits", "digits"), ("2-layers.v3", "model_2_layers_v3"), ("日本", "model"), ("_Bool", "bool"), ("int", "int")],
)
def test_names_keep_what_they_can(name: str, expected: str) -> None:
    assert f"int {expected}_predict(" in content(made(), name=name).decode()


def test_the_memory_is_said_as_the_compiler_finds_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = made(sizes=(40, 30, 20, 10), features=PIXELS)
    u = rows_for(model, 3)
    for quantize, weights in ((None, 4 * 2000), ("int8", 2000 + 4 * 60)):
        with caplog.at_level(logging.INFO, "xpnet"):
            header = content(model, quantize=quantize)  # type: ignore[arg-type]
        flash, ram = weights + 4 * 60, 4 * (30 + 20)
        said = f"{flash:,} bytes of constants (flash) and {ram:,} bytes of variables (RAM)"
        assert said in caplog.records[-1].getMessage()
        assert said in header.decode()
        compiled(header, tmp_path, u)
        (tmp_path / "alone.c").write_text('#include "model.h"\nint (*p)(const uint8_t *, float *) = model_predict;\n')
        subprocess.run(["gcc", *STRICT.split(), "-fdata-sections", "-c", "alone.c"], cwd=tmp_path, check=True)
        shown = subprocess.run(["size", "-A", "alone.o"], cwd=tmp_path, check=True, capture_output=True, text=True)
        found = re.findall(
            r"^\.(rodata|bss)\.(?:model_)?([ab]|weights|units|bias)\S*\s+(\d+)", shown.stdout, re.MULTILINE
        )
        assert sum(int(size) for kind, _, size in found if kind == "rodata") == flash
        assert sum(int(size) for kind, _, size in found if kind == "bss") == ram


def test_what_c_cannot_hold_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\.h file holds one model"):
        content(xpnet.Ensemble([made(), made(seed=2)]))
    with pytest.raises(
        ConfigError,
        match="input: the model takes features that need not be bytes, which uint8 cannot hold: choose float32",
    ):
        content(made(), input="uint8")
    deep = dataclasses.replace(made(), schema=Schema("deep", (6,), features=Scaling("pixels", None, 4095.0)))
    with pytest.raises(
        ConfigError, match="input: the model has pixels up to 4095, which uint8 cannot hold: choose float32"
    ):
        content(deep, input="uint8")
    for value, quantize in ((np.nan, None), (1e300, None), (np.inf, "int8")):
        model = made(dtype="float64")
        model.params[2][0, 0] = value
        with pytest.raises(ModelError, match="its weights2 are not finite float32 numbers"):
            content(model, quantize=quantize)  # type: ignore[arg-type]
