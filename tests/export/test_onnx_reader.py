"""ONNX files read back: equal outputs for whatever is a plain MLP, and one line for whatever is not."""

import contextlib
import io
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from tests.export.models import KINDS, made, rows_for
from xpnet.data import Scaling
from xpnet.data.schema import PIXELS
from xpnet.errors import ConfigError, ModelError, XpnetError
from xpnet.export.layers import rounded
from xpnet.export.onnx import content
from xpnet.export.onnx_reader import from_onnx

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra onnx")
reference = pytest.importorskip("onnx.reference", reason="needs onnx, of the extra onnx")
FLOAT, helper = onnx.TensorProto.FLOAT, onnx.helper

RNG = np.random.default_rng(5)
W1, B1, W2, B2 = (RNG.normal(size=shape).astype(np.float32) for shape in ((6, 4), (4,), (4, 3), (3,)))
NUMBERS: dict[str, Any] = {"W1": W1, "B1": B1, "W2": W2, "B2": B2}


def back(model: Any, folder: Path, **options: Any) -> xpnet.Model:
    """What is read from the file of a model."""
    (folder / "model.onnx").write_bytes(content(model, **options))
    return from_onnx(folder / "model.onnx")


@pytest.mark.parametrize(("activation", "loss", "batch_norm", "dtype"), KINDS)
def test_the_way_back_gives_the_same_outputs(
    activation: str, loss: str, batch_norm: bool, dtype: str, tmp_path: Path
) -> None:
    model = made(activation, loss, batch_norm, dtype, classes=() if loss in ("huber", "poisson") else ("a", 3, 2.5))
    found = back(model, tmp_path)
    u = rows_for(model, 50)
    expected = model.outputs(u)
    assert found.outputs(u).dtype == dtype
    tolerance = 2e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found.outputs(u), expected, rtol=0, atol=tolerance * np.abs(expected).max())
    assert (found.network.activation, found.network.loss, found.classes) == (activation, loss, model.classes)
    again = back(found, tmp_path)
    np.testing.assert_allclose(again.outputs(u), found.outputs(u), rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("quantize", [None, "int8"])
@pytest.mark.parametrize("features", [PIXELS, Scaling("pixels", None, 16.0), Scaling(), Scaling("minmax", None, 3.0)])
def test_scaling_and_texts_are_kept(features: Scaling, quantize: Any, tmp_path: Path) -> None:
    model = made(features=features, image_shape=(2, 3), columns=tuple("uvwxyz"), form="emnist", classes=("a", 1, "c"))
    found = back(model, tmp_path, quantize=quantize)
    u = rows_for(model, 20)
    np.testing.assert_allclose(found.outputs(u), (rounded(model) if quantize else model).outputs(u), rtol=0, atol=2e-6)
    schema = found.schema
    assert (schema.image_shape, schema.columns, schema.form) == ((2, 3), tuple("uvwxyz"), "emnist")
    assert (schema.data, schema.classes) == ("drawn by the test", ("a", 1, "c"))
    assert (schema.features.kind == "pixels") == (features.kind == "pixels")


def test_digits_far_from_zero_are_kept(tmp_path: Path) -> None:
    model = made(features=Scaling("standard", np.full(6, 2e7), np.full(6, 3.0)))
    u = 2e7 + np.random.default_rng(0).normal(size=(20, 6))
    np.testing.assert_allclose(back(model, tmp_path).outputs(u), model.outputs(u), rtol=0, atol=2e-6)


def test_targets_keep_the_digits_that_float32_lacks(tmp_path: Path) -> None:
    targets = Scaling("standard", 1.7e9 + np.arange(3) / 7, np.array([1000.0, 1 / 3, 7.0]))
    model = made(loss="squared-error", targets=targets)
    found = back(model, tmp_path)
    assert found.params[0].dtype == np.float32
    assert np.array_equal(found.schema.targets.shift, targets.shift)
    u = rows_for(model, 20)
    np.testing.assert_allclose(found.outputs(u), model.outputs(u), rtol=0, atol=0.01)


def test_several_models_in_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds 2 models whose outputs are averaged: export and import them one by"):
        back(xpnet.Ensemble([made(), made(seed=1)]), tmp_path)


# Graphs of others -----------------------------------------------------------------------------------------------------


def graph(nodes: list[Any], constants: dict[str, Any] | None = None, shape: Any = ("n", 6), **options: Any) -> Any:
    """A model of nodes from x to y; a node is its operator, its inputs, its output, and its attributes."""
    made_of = [
        helper.make_node(op, inputs.split(), [output], name=f"the {op}", **(rest[0] if rest else {}))
        for op, inputs, output, *rest in nodes
    ]
    arrays = {**NUMBERS, **(constants or {})}
    used = {name for node in made_of for name in node.input}
    body = helper.make_graph(
        made_of,
        "graph",
        [helper.make_tensor_value_info("x", options.get("kind", FLOAT), shape)],
        [helper.make_tensor_value_info("y", FLOAT, ["n", options.get("width", 3)])],
        [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items() if name in used],
    )
    opsets = [helper.make_opsetid("", options.get("opset", 20)), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(body, opset_imports=opsets, ir_version=9)


def read(model: Any, folder: Path, **options: Any) -> xpnet.Model:
    (folder / "graph.onnx").write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return from_onnx(folder / "graph.onnx", **options)


def computed(model: Any, x: np.ndarray) -> Any:
    """The output y, by onnx's own reference."""
    return reference.ReferenceEvaluator(model).run(["y"], {"x": x})[0]


def dense(*between: Any, end: str = "y") -> list[Any]:
    """Two layers, and what stands between h and g."""
    return [
        ("MatMul", "x W1", "m"),
        ("Add", "B1 m", "h"),
        *between,
        ("Gemm", "g W2 B2", end),
    ]


ROOT = {"c": np.float32(np.sqrt(2 / np.pi)), "k": np.float32(0.044715), "one": np.float32(1), "half": np.float32(0.5)}
KNOWN: list[tuple[str, Any, dict[str, Any]]] = [
    ("relu", [("Relu", "h", "g")], {}),
    ("relu", [("Max", "h zero", "g")], {"zero": np.float32(0)}),
    ("leaky-relu", [("LeakyRelu", "h", "g", {"alpha": 0.01})], {}),
    ("leaky-relu", [("PRelu", "h slope", "g")], {"slope": np.array([0.01], np.float32)}),
    ("leaky-relu", [("Mul", "h slope", "s"), ("Max", "s h", "g")], {"slope": np.float32(0.01)}),
    ("sigmoid", [("Sigmoid", "h", "g")], {}),
    (
        "sigmoid",
        [("Neg", "h", "a"), ("Exp", "a", "b"), ("Add", "b one", "d"), ("Div", "one d", "g")],
        {"one": np.float32(1)},
    ),
    ("tanh", [("Tanh", "h", "t"), ("Mul", "t a", "g")], {"a": np.float32(1.5)}),
    (
        "scaled-tanh",
        [("Mul", "h a", "s"), ("Tanh", "s", "t"), ("Mul", "b t", "g")],
        {"a": np.float32(2 / 3), "b": np.float32(1.7159)},
    ),
    ("gelu", [("Gelu", "h", "g", {"approximate": "tanh"})], {}),
    (
        "gelu",
        [
            *(
                ("Pow", "h three", "a"),
                ("Mul", "k a", "b"),
                ("Add", "h b", "d"),
                ("Mul", "d c", "e"),
                ("Tanh", "e", "f"),
            ),
            *(("Add", "one f", "i"), ("Mul", "h half", "j"), ("Mul", "j i", "g")),
        ],
        {**ROOT, "three": np.float32(3)},
    ),
    ("identity", [("Identity", "h", "g")], {}),
]


@pytest.mark.parametrize(("name", "between", "constants"), KNOWN)
def test_an_activation_is_known_by_its_values(name: str, between: Any, constants: Any, tmp_path: Path) -> None:
    model = graph(dense(*between), constants)
    found = read(model, tmp_path)
    assert (found.network.activation, found.network.sizes, found.network.loss) == (name, (6, 4, 3), "squared-error")
    x = RNG.normal(size=(30, 6)).astype(np.float32)
    np.testing.assert_allclose(found.outputs(x), computed(model, x), rtol=0, atol=2e-6 * 10)


PARTS: list[tuple[Any, dict[str, Any], str]] = [
    # Normalisation before and behind the activation, and numbers of all kinds at both ends.
    (
        dense(
            ("BatchNormalization", "h s b e v", "i", {"epsilon": 1e-3}),
            ("Relu", "i", "j"),
            ("BatchNormalization", "j s b e v", "g"),
        ),
        {name: RNG.uniform(0.5, 2, 4).astype(np.float32) for name in "sbev"},
        "relu",
    ),
    ([("Gemm", "x V B1", "h", {"transB": 1, "alpha": 0.5, "beta": 2.0}), ("Tanh", "h", "g"), ("MatMul", "g W2", "y")],
     {"V": W1.T.copy()}, "tanh"),
    ([("Sub", "a x", "u"), ("Gemm", "u W1 B1", "h"), ("Relu", "h", "g"), ("Gemm", "g W2 B2", "p"),
      ("Softmax", "p", "y")],
     {"a": np.array([1, 2, 3, 4, 5, 6], np.float32)}, "relu"),
    ([("Mul", "x a", "v"), ("Add", "v b", "u"), ("Gemm", "u W1 B1", "h"), ("Relu", "h", "g"), ("Gemm", "g W2 B2", "p"),
      ("Div", "p t", "q"), ("Softmax", "q", "y", {"axis": -1})],
     {"a": np.array([0.1, 2, 3, 4, 5, 6], np.float32), "b": np.float32(0.3), "t": np.float32(2)}, "relu"),
    ([("Sub", "x a", "v"), ("Div", "v b", "u"), ("Gemm", "u W1 B1", "h"), ("Sigmoid", "h", "g"),
      ("Gemm", "g W2 B2", "p"), ("Sigmoid", "p", "y")],
     {"a": np.float32(0.13), "b": np.float32(0.31)}, "sigmoid"),
    ([("Gemm", "x W1 B1", "h"), ("Tanh", "h", "g"), ("Gemm", "g W2 B2", "p"), ("Exp", "p", "q"), ("Mul", "q t", "y")],
     {"t": np.array([1, 2, 3], np.float32)}, "tanh"),
    ([("Gemm", "x W1 B1", "h"), ("Tanh", "h", "g"), ("Gemm", "g W2 B2", "p"), ("Mul", "p t", "q"), ("Sub", "q t", "y")],
     {"t": np.array([-1, 2, 3], np.float32)}, "tanh"),
    ([("Cast", "half", "W", {"to": FLOAT}), ("Transpose", "W", "V"), ("Gemm", "x V B1", "h", {"transB": 1}),
      ("Dropout", "h", "d"), ("Relu", "d", "g"), ("Gemm", "g W2 B2", "y")],
     {"half": W1.astype(np.float16)}, "relu"),
    ([("MatMul", "x W", "y")], {"W": RNG.normal(size=(6, 3)).astype(np.float32)}, "relu"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "constants", "activation"), PARTS)
def test_what_stands_around_is_folded(nodes: Any, constants: Any, activation: str, tmp_path: Path) -> None:
    model = graph(nodes, constants)
    found = read(model, tmp_path)
    assert found.network.activation == activation
    x = RNG.normal(size=(30, 6)).astype(np.float32)
    expected = computed(model, x)
    np.testing.assert_allclose(found.outputs(x), expected, rtol=0, atol=4e-6 * np.abs(expected).max())


def test_pictures_are_flattened_however(tmp_path: Path) -> None:
    for flat in (
        [("Flatten", "x", "u")],
        [("Reshape", "x s", "u")],
        [
            ("Shape", "x", "a"),
            ("Gather", "a zero", "b"),
            ("Concat", "b m", "s2", {"axis": 0}),
            ("Reshape", "x s2", "u"),
        ],
    ):
        constants = {"s": np.array([-1, 6]), "zero": np.array([0]), "m": np.array([-1]), "w": np.float32(255)}
        nodes = [*flat, ("Cast", "u", "v", {"to": FLOAT}), ("Div", "v w", "f"), ("Gemm", "f W1 B1", "h")]
        model = graph(
            [*nodes, ("Relu", "h", "g"), ("Gemm", "g W2 B2", "y")],
            constants,
            shape=("n", 1, 2, 3),
            kind=onnx.TensorProto.UINT8,
        )
        found = read(model, tmp_path)
        x = RNG.integers(0, 256, (20, 1, 2, 3)).astype(np.uint8)
        assert (found.image_shape, found.schema.features.kind) == ((2, 3), "pixels")
        np.testing.assert_allclose(found.outputs(x), computed(model, x), rtol=0, atol=4e-6)


def test_two_classes_of_one_sigmoid_as_scikit_learn_has_them(tmp_path: Path) -> None:
    nodes = [
        *(("Gemm", "x W1 B1", "h"), ("Relu", "h", "g"), ("Gemm", "g V b", "z"), ("Sigmoid", "z", "p")),
        *(("Sub", "one p", "q"), ("Concat", "q p", "y", {"axis": 1}), ("ArgMax", "y", "i", {"axis": 1})),
        ("ArrayFeatureExtractor", "names i", "name", {"domain": "ai.onnx.ml"}),
    ]
    V, b = W2[:, :1], B2[:1]
    model = graph(nodes, {"V": V, "b": b, "one": np.float32(1), "names": np.array([7, 9])}, width=2)
    found = read(model, tmp_path)
    x = RNG.normal(size=(30, 6)).astype(np.float32)
    expected = computed(model, x)
    np.testing.assert_allclose(found.outputs(x), expected, rtol=0, atol=1e-6)
    assert list(found.predict(x)) == [(7, 9)[k] for k in expected.argmax(axis=1)]
    assert found.network.loss == "cross-entropy"


def test_logits_are_what_they_are_called(tmp_path: Path) -> None:
    model = graph(dense(("Relu", "h", "g")))
    x = RNG.normal(size=(30, 6)).astype(np.float32)
    classifier = read(model, tmp_path, loss="cross-entropy")
    np.testing.assert_allclose(classifier.logits(x), computed(model, x), rtol=0, atol=4e-6)
    logs = graph([*dense(("Relu", "h", "g"), end="z"), ("LogSoftmax", "z", "y")])
    with pytest.raises(ModelError, match="ends with LogSoftmax: with the loss cross-entropy"):
        read(logs, tmp_path)
    np.testing.assert_allclose(
        read(logs, tmp_path, loss="cross-entropy").outputs(x), np.exp(computed(logs, x)), atol=2e-6
    )
    with pytest.raises(ModelError, match="it ends with softmax, but the loss squared-error with identity"):
        read(graph([*dense(("Relu", "h", "g"), end="z"), ("Softmax", "z", "y")]), tmp_path, loss="squared-error")
    with pytest.raises((ConfigError, ModelError), match="loss: unknown value 'mes'; did you mean 'mse'"):
        read(model, tmp_path, loss="mes")


@pytest.mark.parametrize("end", [(), ("softmax",)])
def test_what_torch_exports(end: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch, of the extra [torch], is not installed")
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Flatten(), nn.Linear(12, 7), nn.BatchNorm1d(7), nn.GELU(approximate="tanh"), nn.Dropout(0.1)),
        *(nn.Linear(7, 5), nn.GELU(approximate="tanh"), nn.BatchNorm1d(5), nn.Linear(5, 3)),
        *((nn.Softmax(dim=1),) if end else ()),
    )
    net(torch.randn(64, 1, 3, 4))
    x = torch.randn(20, 1, 3, 4)
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        expected = net.eval()(x).numpy()
        torch.onnx.export(net, (x,), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}})
    found = read(file.getvalue(), tmp_path)
    assert (str(found.network), found.image_shape) == ("12-7-5-3 gelu", (3, 4))
    np.testing.assert_allclose(found.outputs(x.numpy()), expected, rtol=0, atol=2e-6)


# What is refused ------------------------------------------------------------------------------------------------------


def with_external_data() -> Any:
    model = graph(dense(("Relu", "h", "g")))
    tensor = next(each for each in model.graph.initializer if each.name == "W1")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model


def with_dims(*dims: int) -> Any:
    model = graph(dense(("Relu", "h", "g")))
    tensor = next(each for each in model.graph.initializer if each.name == "W1")
    del tensor.dims[:]
    tensor.dims.extend(dims)
    return model


def with_two_inputs() -> Any:
    model = graph(dense(("Add", "h z", "g")))
    model.graph.input.append(helper.make_tensor_value_info("z", FLOAT, ["n", 4]))
    return model


def repeated(n: int) -> Any:
    names = ["h", *(f"a{i}" for i in range(n)), "g"]
    return graph(dense(*(("Tanh", one, other) for one, other in pairwise(names))))


REFUSED: list[tuple[Any, str]] = [
    (lambda: b"", "holds no network"),
    (lambda: b"\x00\x01 no protocol buffer \xff" * 9, "damaged, or not an ONNX file"),
    (lambda: graph(dense(("Relu", "h", "g"))).SerializeToString()[:-30], "damaged|not an ONNX|takes|none of its|holds"),
    (lambda: graph(dense(("Elu", "h", "g"))), "has no Elu 'the Elu'"),
    (lambda: graph(dense(("Erf", "h", "g"))), "has no Erf 'the Erf'"),
    (lambda: graph(dense(("Gelu", "h", "g"))), "no Gelu 'the Gelu' with the approximate None"),
    (lambda: graph(dense(("LeakyRelu", "h", "g", {"alpha": 0.2}))), "LeakyRelu' of the slope 0.2 is none of what may"),
    (lambda: graph(dense(("Sigmoid", "h", "s"), ("Mul", "h s", "g"))), "'the Sigmoid' is none of what may stand there"),
    (lambda: graph(dense(("Softmax", "h", "g"))), "'the Softmax' is none of what may stand there"),
    (lambda: graph([("Conv", "x W1", "h"), ("Gemm", "h W2 B2", "y")]), "has no Conv 'the Conv'"),
    (lambda: graph([("Relu", "x", "u"), ("Gemm", "u W1 B1", "y")]), "'the Relu' bends the input"),
    (lambda: graph([*dense(("Relu", "h", "g"), end="z"), ("Relu", "z", "y")]), "'the Relu' is none of what may stand"),
    (
        lambda: graph([*dense(("Relu", "h", "g"), end="z"), ("Softmax", "z", "s"), ("Mul", "s B2", "y")]),
        "'the Mul' changes the outputs",
    ),
    (lambda: graph([("Gemm", "x W1 B1", "h"), ("Relu", "h", "a"), ("Gemm", "a V B1", "i"), ("Tanh", "i", "g"),
                    ("Gemm", "g W2 B2", "y")], {"V": np.eye(4, dtype=np.float32)}), "same activation, not relu, tanh"),
    (lambda: graph([("MatMul", "x W1", "a"), ("MatMul", "x W1", "b"), ("Add", "a b", "h"), ("MatMul", "h W2", "y")]),
     "'the MatMul' begins a branch"),
    (lambda: graph([("Gemm", "x W1 B1", "h"), ("Relu", "h", "a"), ("Gemm", "a V B1", "i"), ("Add", "a i", "g"),
                    ("Gemm", "g W2 B2", "y")], {"V": np.eye(4, dtype=np.float32)}), "'the Add' joins branches"),
    (lambda: graph([("MatMul", "W1 x", "y")]), "has no MatMul 'the MatMul'"),
    (lambda: graph([("Transpose", "x", "u"), ("MatMul", "u W1", "y")]), "has no Transpose"),
    (lambda: graph([("Gemm", "x W2 B2", "y")]), "has the shape|takes 4"),
    (lambda: graph(dense(("Reshape", "h s", "g")), {"s": np.array([-1, 8])}), "'the Reshape' mixes examples"),
    (lambda: graph(dense(("Add", "h b", "i"), ("Relu", "i", "g")), {"b": np.ones((5, 1), np.float32)}),
     "has 5 numbers for 4"),
    (lambda: graph(dense(("Relu", "q", "g"))), "'the Relu' takes 'q', which nothing before it makes"),
    (lambda: graph(dense(("Relu", "g", "g"))), "takes 'g', which nothing before it makes"),
    (lambda: graph([*dense(("Relu", "h", "g")), ("Relu", "h", "g")]), "the tensor 'g' is made twice"),
    (lambda: graph(dense(("Relu", "h", "g")), {"W2": W2[:3]}), "takes 3 units, but the layer before it has 4"),
    (lambda: graph(dense(("Relu", "h", "g")), {"W2": W2.astype(np.float64)}), "all float32, or all float64"),
    (lambda: graph([("Gemm", "x W1 B1", "h"), ("Identity", "B1", "y")]), "none of its outputs comes from its input"),
    (lambda: graph([("Gemm", "x W1 B1", "h"), ("Identity", "x", "y")]), "does not come from its last layer"),
    (lambda: graph([("Loop", "x", "y")]), "has no Loop"),
    (lambda: graph([("ConstantOfShape", "s", "W"), ("MatMul", "x W", "y")], {"s": np.array([10**9, 10**9])}),
     "no ConstantOfShape"),
    (lambda: graph([("Reshape", "x s", "u")], {"s": np.array([2**62, 2**62])}), "none of its outputs"),
    (lambda: repeated(100), "more than 64 operators between two layers"),
    (lambda: repeated(10_001), "operators; the cap is 10000"),
    (with_external_data, r"'W1' lies in another file, which is not read: .*external_data=False"),
    (with_two_inputs, "takes 2 inputs, but a plain MLP takes one"),
    (lambda: with_dims(10**12, 10**12), "damaged"),
    (lambda: with_dims(-1, 4), "'W1' has a shape that no array has"),
    (lambda: with_dims(24), "weights of shape"),
    (lambda: with_dims(*[1] * 80, 24), "'W1' has a shape that no array has"),
    (lambda: graph(dense(("Relu", "h", "g")), {"W1": W1[:, :0]}), "weights of shape"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_is_no_plain_mlp_is_refused_in_a_line(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as error:
        read(make(), tmp_path)
    assert str(error.value).startswith(str(tmp_path / "graph.onnx"))
    assert str(error.value).isprintable()


def test_constants_cannot_become_far_larger_than_the_file(tmp_path: Path) -> None:
    big = np.zeros((1000, 1000), np.int8)
    scale = np.float32(1)
    nodes = [("DequantizeLinear", "big scale", f"b{i}") for i in range(8)]
    with pytest.raises(ModelError, match="constants become far larger than the file"):
        read(graph([*nodes, *dense(("Relu", "h", "g"))], {"big": big, "scale": scale}), tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("labels", "[" * 100_000), ("labels", '["a", "a", "b"]'), ("labels", "{}"), ("columns", "[1]"), ("form", "x"),
     ("models", '"many"'), ("white", "-1"), ("image_shape", "[[]]"), ("image_shape", "[7]"), ("data", "\x1b[31m\u202e"),
     ("loss", "elu")],
)  # fmt: skip
def test_what_a_file_says_of_itself_may_be_anything(key: str, value: str, tmp_path: Path) -> None:
    file = onnx.load_model_from_string(content(made(classes=("a", "b", "c"), features=PIXELS)))
    (entry,) = [each for each in file.metadata_props if each.key == key]
    entry.value = value
    with contextlib.suppress(ModelError):
        assert read(file, tmp_path).data.isprintable()


@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused(changes: list[tuple[float, int]], tmp_path: Path) -> None:
    whole = bytearray(content(made("gelu", sizes=(6, 4, 3))))
    for where, byte in changes:
        whole[int(where * len(whole))] = byte
    with contextlib.suppress(XpnetError):
        assert read(bytes(whole), tmp_path).network.n_layers == 2


def test_every_image_of_mnist_has_the_same_class(mnist: xpnet.Dataset, tmp_path: Path) -> None:
    assert mnist.test is not None
    images = np.asarray(mnist.test.images)
    model = xpnet.fit(
        xpnet.MLP((784, 32, 10), "gelu", batch_norm=True), mnist, epochs=1, device="cpu", progress=False
    ).model
    found, expected = back(model, tmp_path).outputs(images), model.outputs(images)
    assert np.abs(found - expected).max() <= 2e-6
    assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))
