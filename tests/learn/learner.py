"""A learner: what fills the holes of each exercise, rightly and with the mistakes that are usually made."""

import re
from collections.abc import Sequence
from pathlib import Path

from xpnet.files import package_text
from xpnet.learn.checking import Report, examine

__all__ = ["ANSWERS", "answered", "fault_of", "report_of"]

ANSWERS: dict[int, list[str]] = {
    1: ["x @ w + b", "1 / (1 + np.exp(-z))", "np.mean((y - t) ** 2)"],
    2: [
        "2 * (y - t) / n",
        "dy * y * (1 - y)",
        "x.T @ dz",
        "np.sum(dz)",
        "(f(p + h * np.eye(len(p))[i]) - f(p - h * np.eye(len(p))[i])) / (2 * h)",
    ],
    3: ["x @ W + b", "dy @ W.T", "x.T @ dy", "dy.sum(axis=0)"],
    4: ["np.maximum(z, 0)", "dy * (z > 0)", "np.tanh(z)", "dy * (1 - y**2)"],
    5: [
        "logits - logits.max(axis=1, keepdims=True); log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))",
        "-np.mean(log_p[np.arange(n), labels])",
        "np.exp(log_p); dlogits[np.arange(n), labels] -= 1; dlogits *= dloss / n",
    ],
    6: [
        "F.relu(z)",
        "F.dense(h, W1, b1)",
        "F.softmax_cross_entropy(logits, labels)",
        "dense1_vjp(dlogits)",
        "relu_vjp(dh)",
        "dense0_vjp(dz)",
        "[W0 - lr * dW0, b0 - lr * db0, W1 - lr * dW1, b1 - lr * db1]",
        "order[start : start + batch_size]",
        "train_step(params, x[batch], labels[batch], lr)",
    ],
    7: [
        "rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out))",
        "momentum * v + g",
        "p - lr * v",
        "beta1 * m + (1 - beta1) * g",
        "beta2 * v + (1 - beta2) * g**2",
        "p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)",
    ],
    8: [
        "x * (uniforms >= rate) / (1 - rate) if training else x",
        "dy * (uniforms >= rate) / (1 - rate) if training else dy",
        "rng.permutation(n)[n_validation:]",
        "np.setdiff1d(np.arange(n), train)",
        "np.argmax(validation)",
        "test[best]",
    ],
}


def answered(number: int, answers: Sequence[str]) -> str:
    """An exercise whose holes are filled in their order; those that are left over stay."""
    rest = iter(answers)
    template = package_text("xpnet.learn", f"exercises/exercise_{number}.py")
    return re.sub(r"(?<== )\.\.\.", lambda hole: next(rest, "..."), template)


def report_of(number: int, source: str, folder: Path) -> Report:
    """What the checker says of a file."""
    path = folder / f"exercise_{number}.py"
    path.write_text(source)
    return examine(number, path)


def fault_of(number: int, folder: Path, *changes: tuple[str, str]) -> str:
    """All faults of right answers with changes, old and new, in one text."""
    source = answered(number, ANSWERS[number])
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} is there {source.count(old)} times"
        source = source.replace(old, new)
    report = report_of(number, source, folder)
    return "\n".join(f"{f.what.split(': ')[-1]}: {f.fault}" for f in report.findings if f.fault)
