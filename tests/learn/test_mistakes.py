"""The mistakes that learners make, each recognised by its numbers and named."""

import re
from pathlib import Path

import pytest

from .learner import ANSWERS, answered, fault_of, report_of

MISTAKES: dict[int, dict[tuple[str, str], str]] = {
    1: {
        ("1 / (1 + np.exp(-z))", "z"): "y: the sigmoid is missing",
        ("np.exp(-z)", "np.exp(z)"): "y: the exponent has the wrong sign",
        ("x @ w + b", "x @ w"): "y: the b is missing",
        ("x @ w + b", "np.sum(x * w + b, axis=1)"): "y: b is added to each product",
        ("x @ w + b", "x * w + b"): "y: the products x_j w_j are not added up",
        ("x @ w + b", "np.sum(x * w) + b"): "y: all examples are added up",
        ("1 / (1 + np.exp(-z))", "np.tanh(z)"): "y: that is tanh",
        ("np.mean((y - t) ** 2)", "np.sum((y - t) ** 2)"): "loss: 1/n is missing",
        ("np.mean((y - t) ** 2)", "(y - t) ** 2"): "loss: the mean is missing",
        ("np.mean((y - t) ** 2)", "np.mean(y - t)"): "loss: the square is missing",
        ("np.mean((y - t) ** 2)", "np.mean(y - t) ** 2"): "loss: the square is taken of the mean",
        ("np.mean((y - t) ** 2)", "0.5 * np.mean((y - t) ** 2)"): "loss: a half is in front",
        ("np.mean((y - t) ** 2)", "np.mean(abs(y - t))"): "loss: that is the mean of |y - t|",
        ("np.mean((y - t) ** 2)", "np.sqrt(np.mean((y - t) ** 2))"): "loss: that is the root",
        ("np.mean((y - t) ** 2)", "np.sum((y - t) ** 2) / 2"): "loss: 1/n is missing.*; and a half is in front",
    },
    2: {
        ("2 * (y - t) / n", "(y - t) / n"): "dw: the 2 is missing.*\n.*db: the 2 is missing",
        ("2 * (y - t) / n", "2 * (y - t)"): "dw: 1/n is missing",
        ("2 * (y - t) / n", "2 * (t - y) / n"): "dw: its sign is wrong",
        ("2 * (y - t) / n", "2 * (y - t) / n**2"): "dw: 1/n is there twice",
        ("2 * (y - t) / n", "2 * (y - t) ** 2 / n"): "dw: dy is still squared",
        ("dy * y * (1 - y)", "dy"): "dw: the sigmoid's slope, y .1 - y., is missing",
        ("dy * y * (1 - y)", "dy * z * (1 - z)"): "dw: the slope is z .1 - z.: it takes the value y",
        ("dy * y * (1 - y)", "dy * (1 - y**2)"): "dw: that is tanh's slope",
        ("x.T @ dz", "np.mean(x * dz[:, None], axis=0)"): "dw: 1/n is there twice",
        ("x.T @ dz", "np.sum(dz) * w"): "dw: that multiplies by w",
        ("np.sum(dz)", "dz"): "db: db is not summed over the examples",
        ("np.sum(dz)", "np.mean(dz)"): "db: 1/n is there twice",
        (
            "(f(p + h * np.eye(len(p))[i]) - f(p - h * np.eye(len(p))[i])) / (2 * h)",
            "(f(p + h * np.eye(len(p))[i]) - f(p)) / h",
        ): "d: that is the forward difference",
        ("/ (2 * h)", "/ h"): "d: it is divided by h",
        ("/ (2 * h)", "/ 2 * h"): "d: it is divided by 2, and then multiplied by h",
        (
            "(f(p + h * np.eye(len(p))[i]) - f(p - h * np.eye(len(p))[i]))",
            "(f(p + h) - f(p - h))",
        ): "d: all elements of p move at once",
        (
            "        d[i] = (f(p + h * np.eye(len(p))[i]) - f(p - h * np.eye(len(p))[i]))",
            "        q = p; q[i] += h; up = f(q); q[i] -= 2 * h; d[i] = (up - f(q))",
        ): "d: p is not the same afterwards",
    },
    3: {
        ("x.T @ dy", "dy.T @ x"): "dW: your dW is the right one transposed",
        ("dy @ W.T", "dy @ W"): r"dx: W's transpose is missing.*\(which fits only where all lengths are equal; otherwise, the shapes do not fit; here, dy is",
        ("dy @ W.T", "W.T @ dy"): "dx: the order is wrong",
        ("x.T @ dy", "x @ dy"): "dW: x's transpose is missing",
        ("x @ W + b", "x @ W.T + b"): "y: W is transposed",
        ("x @ W + b", "x @ W"): "y: the b is missing",
        ("x @ W + b", "W @ x + b"): "y: the order is wrong",
        ("dy.sum(axis=0)", "dy"): "db: db is not summed over the batch",
        ("dy.sum(axis=0)", "dy.sum(axis=1)"): "db: that sums over the outputs",
        ("dy.sum(axis=0)", "dy.sum()"): "db: that sums over everything",
        ("dy.sum(axis=0)", "dy.mean(axis=0)"): "db: it is divided by n",
        ("dy.sum(axis=0)", "b * dy.sum(axis=0)"): "db: db is multiplied by b",
        ("x.T @ dy", "x.T @ dy / len(x)"): "dW: it is divided by n",
        ("dy @ W.T", "-dy @ W.T"): "dx: its sign is wrong",
        ("return dx, dW, db", "return dW, dx, db"): "dx: that is dW.*\n.*dW: that is dx",
        ("x.T @ dy", "dy.T @ x / len(x)"): "dW: your dW is the right one transposed.*; and it is divided by n",
    },
    4: {
        ("dy * (z > 0)", "dy"): "dz: the mask is forgotten",
        ("dy * (z > 0)", "dy * (z < 0)"): "dz: the mask has the wrong side",
        ("dy * (z > 0)", "dy * (z >= 0)"): "dz: the mask is z >= 0",
        ("dy * (z > 0)", "dy * (dy > 0)"): "dz: the mask is of dy instead of z",
        ("dy * (z > 0)", "(z > 0) * 1.0"): "dz: that is the mask alone",
        ("dy * (z > 0)", "dy * z"): "dz: the dy is multiplied by the values of z",
        ("dy * (z > 0)", "dy * y"): "dz: the dy is multiplied by y",
        ("dy * (z > 0)", "dy[z > 0]"): "dz: only the elements that pass are left",
        ("np.maximum(z, 0)", "max(z.max(), 0)"): "y: that is the largest of all elements",
        ("np.maximum(z, 0)", "abs(z)"): "y: that is |z|",
        ("np.maximum(z, 0)", "np.minimum(z, 0)"): "y: that is min",
        ("np.maximum(z, 0)", "z; z[z < 0] = 0"): "relu: .*make a new one instead of writing into it",
        ("dy * (1 - y**2)", "dy * (1 - z**2)"): "dz: the slope takes y, and that is 1 - z.2",
        ("dy * (1 - y**2)", "dy * (1 - np.tanh(y) ** 2)"): "dz: tanh is applied twice",
        ("dy * (1 - y**2)", "1 - y**2"): "dz: the dy is missing",
        ("dy * (1 - y**2)", "dy * (1 - y)"): "dz: the square is missing",
        ("dy * (1 - y**2)", "dy * y * (1 - y)"): "dz: that is the sigmoid's slope",
        ("np.tanh(z)", "np.tan(z)"): "y: that is the tangent",
    },
    5: {
        ("logits - logits.max(axis=1, keepdims=True)", "logits"): "large logits: the logits' maximum is not taken away",
        ("logits.max(axis=1, keepdims=True)", "logits.max()"): "large logits: the maximum is that of all logits",
        (
            "log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))",
            "np.log(np.exp(log_p) / np.exp(log_p).sum(axis=1, keepdims=True))",
        ): "large logits: a p too small for a float becomes 0",
        (
            "log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))",
            "np.log(np.exp(log_p) / np.exp(log_p).sum(axis=1, keepdims=True) + 1e-12)",
        ): "large logits: a number is added inside the logarithm",
        ("-np.mean(log_p[np", "-np.sum(log_p[np"): "loss: 1/n is missing",
        ("-np.mean(log_p[np", "np.mean(log_p[np"): "loss: its sign is wrong",
        ("np.mean(log_p[np.arange(n), labels])", "np.mean(log_p[:, labels])"): r"loss: p\[:, labels\] has",
        ("np.mean(log_p[np.arange(n), labels])", "np.mean(log_p)"): "loss: all classes count",
        ("np.mean(log_p[np.arange(n), labels])", "np.mean(np.exp(log_p[np.arange(n), labels]))"): "loss: the logarithm",
        ("log_p - np.log(np.exp", "log_p - np.log2(np.exp"): "loss: the log of the sum is to the base 2",
        ("-np.mean(log_p[np.arange(n), labels])", "-np.mean(log_p[np.arange(n), labels]) / np.log(2)"): "to the base 2",
        ("sum(axis=1, keepdims=True)", "sum(axis=1)"): "the shapes .5,4. and .5,. do not fit; here, .*; keepdims=True",
        ("sum(axis=1, keepdims=True)", "sum(axis=0, keepdims=True)"): "loss: the softmax is over the examples",
        (" dlogits[np.arange(n), labels] -= 1;", ""): "dlogits: the -1 at the label is missing",
        ("dlogits *= dloss / n", "dlogits *= dloss"): "dlogits: 1/n is missing",
        ("dlogits *= dloss / n", "dlogits *= dloss / n**2"): "dlogits: 1/n is there twice",
        ("dlogits *= dloss / n", "dlogits *= -dloss / n"): "dlogits: its sign is wrong",
        ("dlogits *= dloss / n", "dlogits *= 1 / n"): "dlogits: the vjp ignores dloss",
        ("dlogits *= dloss / n", "dlogits *= dloss / logits.size"): "dlogits: it is divided by the number of classes, too",
        ("dlogits[np.arange(n), labels] -= 1", "dlogits[:, labels] -= 1"): r"dlogits: p\[:, labels\] has",
        ("dlogits = np.exp(log_p)", "dlogits = log_p * 1"): "dlogits: that has log p where p belongs",
        (
            "    def vjp(dloss=1.0):\n",
            "    p = np.exp(log_p)\n    def vjp(dloss=1.0):\n        p[np.arange(n), labels] -= 1; return p * dloss / n\n",
        ): "dlogits: a second call of the vjp gives another result",
        (
            "dlogits[np.arange(n), labels] -= 1; dlogits *= dloss / n",
            "dlogits *= dloss / n",
        ): "dlogits: the -1 at the label is missing",
        (
            "dlogits[np.arange(n), labels] -= 1; dlogits *= dloss / n",
            "dlogits *= dloss",
        ): "dlogits: the -1 at the label is missing.*; and 1/n is missing",
    },
    6: {
        ("dz = relu_vjp(dh)", "dz = dh"): "dW0: the ReLU is missing on the way back",
        ("h, relu_vjp = F.relu(z)", "h, relu_vjp = F.identity(z)"): "dW0: the ReLU is missing both ways",
        ("F.dense(h, W1, b1)", "F.dense(z, W1, b1)"): "loss: the ReLU is missing on the way forward",
        ("[W0 - lr * dW0, b0 - lr * db0, W1 - lr", "[W0 + lr * dW0, b0 + lr * db0, W1 + lr"): "dW0: you climb",
        ("    dlogits = loss_vjp()", "    dlogits = lr * loss_vjp()"): "dW0: lr is applied twice",
        ("[W0 - lr * dW0", "[W0 - dW0"): "dW0: lr is missing",
        ("    dlogits = loss_vjp()", "    dlogits = loss_vjp() / len(x)"): "dW1: 1/n is there twice",
        ("[W0 - lr * dW0", "[lr * dW0"): "dW0: that is only the gradient",
        ("[W0 - lr * dW0", "[W0"): "dW0: the parameter has not moved",
        (
            "    dh, dW1, db1 = dense1_vjp(dlogits)\n",
            "    dh, dW1, db1 = dense1_vjp(dlogits)\n    W1 -= lr * dW1; dh = dlogits @ W1.T; W1 += lr * dW1\n",
        ): "dW0: W1 has changed before dh is computed",
        ("x[batch], labels[batch]", "x[batch], labels[start : start + batch_size]"): "epoch: examples and labels are not",
        ("x[batch], labels[batch]", "x[batch], labels"): "epoch: a batch has 4 examples and 10 labels",
        ("batch = order[start : start + batch_size]", "batch = np.arange(start, min(start + batch_size, len(x)))"): "epoch: the order is not new",
        ("order[start : start + batch_size]", "order[:batch_size]"): "epoch: each step has the same batch",
        ("order[start : start + batch_size]", "order"): "epoch: each step has all examples",
        ("range(0, len(x), batch_size)", "range(0, len(x) - batch_size + 1, batch_size)"): "epoch: the last batch is left out",
        ("order[start : start + batch_size]", "rng.integers(0, len(x), batch_size)"): "epoch: . examples are left out",
        ("loss, params = train_step(params,", "loss, new = train_step(params,"): "epoch: every step begins with the first",
        ("labels[batch], lr)", "labels[batch], 0.1)"): "epoch: train_step is not given lr",
    },
    7: {
        ("rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out))", "np.zeros((n_in, n_out))"): "W: all weights are 0",
        ("rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out))", "np.full((n_in, n_out), 0.1)"): "W: all weights are equal",
        ("(n_in, n_out))", "(n_in, 1)) * np.ones(n_out)"): "W: the weights of all units are equal",
        ("np.sqrt(2 / n_in)", "2 / n_in"): "W: 2 / n_in is the variance",
        ("np.sqrt(2 / n_in)", "1"): "W: the weights are not scaled",
        ("np.sqrt(2 / n_in)", "np.sqrt(1 / n_in)"): "W: the variance is 1 / n_in",
        ("np.sqrt(2 / n_in)", "np.sqrt(2 / n_out)"): "W: the variance is 2 / n_out",
        ("np.sqrt(2 / n_in)", "np.sqrt(2 / (n_in + n_out))"): "W: that is Glorot's",
        ("rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out))", "rng.random((n_in, n_out)) / 10"): "W: the mean is 0.0499",
        ("rng.normal(0", "np.random.default_rng(1).normal(0"): "W: every rng gives the same numbers",
        ("rng.normal(0", "np.random.normal(0"): "W: the same rng gives other numbers each time",
        ("(n_in, n_out))", "(n_out, n_in))"): "W: W has the shape .n_out, n_in.",
        ("v = momentum * v + g\n    p = p - lr * v", "v = momentum * v + lr * g\n    p = p - v"): "v: lr is inside v",
        ("v = momentum * v + g\n    p = p - lr * v", "v = momentum * v - lr * g\n    p = p + v"): "v: lr and the minus are inside v",
        ("momentum * v + g", "momentum * v + lr * g"): "v: lr is applied twice.*\n.*p: it is wrong because v is",
        ("momentum * v + g", "momentum * v + (1 - momentum) * g"): "v: g is multiplied by 1 - momentum",
        ("momentum * v + g", "g"): "v: the velocity is forgotten",
        ("p - lr * v", "p - lr * (g + momentum * v)"): "p: that is Nesterov's step",
        ("p - lr * v", "p + lr * v"): "p: you climb",
        ("p - lr * v", "p - lr * g"): "p: p takes the gradient",
        ("(m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)", "m / (np.sqrt(v) + eps)"): "p: the bias correction is missing",
        ("v / (1 - beta2**t)", "v"): "p: v is not corrected",
        ("(m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t))", "(m / (1 - beta1**(t-1))) / (np.sqrt(v / (1 - beta2**(t-1)))"): "p: the steps are counted from 0",
        ("(m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t))", "(m / (1 - beta1)) / (np.sqrt(v / (1 - beta2))"): "p: the correction has no t",
        ("(np.sqrt(v / (1 - beta2**t)) + eps)", "np.sqrt(v / (1 - beta2**t) + eps)"): "p: eps is inside the square root",
        ("(1 - beta2) * g**2", "(1 - beta2) * g"): "v: v takes g and not its square",
        ("beta1 * m + (1 - beta1) * g", "beta1 * m + g"): "m: 1 - beta1 is missing.*\n.*p: it is wrong because m is",
        ("np.sqrt(v / (1 - beta2**t))", "v / (1 - beta2**t)"): "p: the square root is missing",
    },
    8: {
        ("x * (uniforms >= rate) / (1 - rate)", "x * (uniforms >= rate)"): "y: 1 / .1 - rate. is missing",
        ("x * (uniforms >= rate) / (1 - rate)", "x * (uniforms < rate) / (1 - rate)"): "y: the mask has the wrong side",
        ("x * (uniforms >= rate) / (1 - rate)", "x * (uniforms >= rate) / rate"): "y: that scales by 1 / rate",
        ("x * (uniforms >= rate) / (1 - rate)", "x * (uniforms > 1 - rate) / rate"): "y: rate is the share that goes",
        ("x * (uniforms >= rate) / (1 - rate)", "x * (uniforms < 1 - rate) / (1 - rate)"): "y: keep where uniforms >= rate",
        ("x * (uniforms >= rate) / (1 - rate)", "x * (np.random.rand(*x.shape) >= rate) / (1 - rate)"): "y: it draws numbers of its own",
        ("dy * (uniforms >= rate) / (1 - rate)", "dy"): "dx: the mask is missing on the way back",
        ("dy * (uniforms >= rate) / (1 - rate)", "dy * (uniforms >= rate)"): "dx: 1 / .1 - rate. is missing on the way back",
        ("dy * (uniforms >= rate) / (1 - rate)", "dy * (np.random.rand(*x.shape) >= rate) / (1 - rate)"): "dx: the way back has another mask",
        ("x * (uniforms >= rate) / (1 - rate) if training else x", "x * (uniforms >= rate) / (1 - rate)"): "y in use: it drops in use as well",
        ("if training else x", "if training else x * (1 - rate)"): "y in use: it scales in use as well",
        (" if training else dy", ""): "dx in use: the mask is there on the way back",
        ("np.setdiff1d(np.arange(n), train)", "rng.permutation(n)[:n_validation]"): "split: .* examples are in both",
        ("rng.permutation(n)[n_validation:]", "np.arange(n)[n_validation:]"): "split: validation is a stretch of neighbours",
        ("rng.permutation(n)[n_validation:]", "rng.permutation(n)[:n_validation]"): "split: the two are exchanged",
        ("rng.permutation(n)[n_validation:]", "np.random.permutation(n)[n_validation:]"): "split: the same rng gives another split",
        ("np.argmax(validation)", "np.argmax(test)"): "best: the test set has chosen",
        ("np.argmax(validation)", "np.argmin(validation)"): "^best: that is the worst one[^\n]*$",
        ("np.argmax(validation)", "np.max(validation)"): "choose: IndexError.*np.argmax gives the place",
        ("test[best]", "validation[best]"): "report: that is the validation's accuracy",
        ("test[best]", "test.max()"): "report: that is the best of the test's",
    },
}  # fmt: skip

CASES = [
    pytest.param(number, change, message, id=f"{number}-{message[:40]}-{i}")
    for number, mistakes in MISTAKES.items()
    for i, (change, message) in enumerate(mistakes.items())
]


@pytest.mark.parametrize(("number", "change", "message"), CASES)
def test_a_mistake_is_named(number: int, change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert re.search(message, fault_of(number, tmp_path, change))


@pytest.mark.parametrize("number", ANSWERS)
def test_right_answers_pass(number: int, tmp_path: Path) -> None:
    report = report_of(number, answered(number, ANSWERS[number]), tmp_path)
    assert report.done, report
