"""A network that reads handwritten digits, from nothing but functions: 97 % of MNIST's test images, on any library.

    python from_scratch.py [cpu | cuda] [numpy | cupy | torch | jax]

The step is the textbook's: forward, the loss, back through each function's vjp, and an update of the parameters.
"""

import sys

import numpy as np

import xpnet
from xpnet import functional as F
from xpnet import optim

backend = xpnet.select(*(sys.argv[1:] or ["cpu"]))
data = xpnet.load_data("mnist")


def on_device(split):
    return backend.to_device(split.images.reshape(-1, 784).astype(np.float32) / 255), backend.to_device(split.labels)


def forward(x, params):
    """The logits, and the way back from them."""
    W0, b0, W1, b1 = params
    z, dense0 = F.dense(x, W0, b0, need_dx=False)
    h, relu = F.relu(z)
    logits, dense1 = F.dense(h, W1, b1)

    def back(dlogits):
        dh, dW1, db1 = dense1(dlogits)
        _, dW0, db0 = dense0(relu(dh))
        return [dW0, db0, dW1, db1]

    return logits, back


rng = np.random.default_rng(0)
params = [
    backend.to_device(p.astype(np.float32))
    for p in (rng.normal(0, (2 / 784) ** 0.5, (784, 128)), np.zeros(128), rng.normal(0, 0.1, (128, 10)), np.zeros(10))
]
velocity = optim.init_state("nesterov", params)
x, labels = on_device(data.train)
x_test, labels_test = on_device(data.test)
epochs, batch = 2, 64

with backend.threads_for(2 * batch * 784 * 128):  # on the CPU a product this small is faster on one thread
    for epoch in range(epochs):
        order = rng.permutation(len(data.train.labels))
        for i in range(0, len(order), batch):
            rows = backend.to_device(order[i : i + batch])
            logits, back = forward(backend.xp.take(x, rows, axis=0), params)
            loss, cross_entropy = F.softmax_cross_entropy(logits, backend.xp.take(labels, rows, axis=0))
            lr = 0.15 * (1 - (epoch + i / len(order)) / epochs)
            params, velocity = optim.nesterov_sgd(params, velocity, back(cross_entropy()), lr=lr)
        predicted = backend.xp.argmax(forward(x_test, params)[0], axis=1)
        print(f"epoch {epoch + 1}: {100 * np.mean(backend.to_host(predicted == labels_test)):.2f} % of the test images")
