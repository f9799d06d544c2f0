"""An optimizer of one's own, in a loop of one's own: Lion on points of two moons.

Nothing of the training is used but the functions: data in, gradients by hand, and an update of three lines.
"""

import numpy as np

import xpnet

data = xpnet.load_data("moons")
(X, y), (X_test, y_test) = data.train, data.test
network = xpnet.MLP((2, 64, 2))
params = xpnet.init_params(network, seed=0)
momenta = [np.zeros_like(p) for p in params]
rng = np.random.default_rng(0)
rate, decay, steps = 0.002, 0.01, 2000

for step in range(steps):
    rows = rng.integers(len(X), size=64)
    loss, grads, _, _ = network.loss_and_grads(params, X[rows].astype(np.float32), y[rows])
    lr = rate * (1 - step / steps)
    for i, g in enumerate(grads):  # Chen et al. 2023
        params[i] -= lr * (np.sign(0.9 * momenta[i] + 0.1 * g) + decay * params[i])
        momenta[i] += 0.01 * (g - momenta[i])
    if step % 500 == 499:
        logits, _, _ = network.forward(params, X_test.astype(np.float32))
        print(f"step {step + 1}: {100 * np.mean(logits.argmax(axis=1) == y_test):.2f} % of the test points")
