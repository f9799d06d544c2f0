"""One network, trained by several processes as by one: `mpiexec -n 4 python many_processes.py`.

The batch is cut into eight shards, whose gradients are added in one order, whoever computed them. So the digest that is
printed at the end is the same for 1, 2, 4 and 8 processes.
"""

import hashlib

import xpnet
from xpnet.distributed import started

team = started()  # alone where no launcher started several
data = xpnet.load_data("spirals")
network = xpnet.MLP((data.n_features, 64, 64, data.n_classes))
result = xpnet.fit(network, data, batch_size=128, shards=8, epochs=60, team=team, progress=False)

if team.rank == 0:
    digest = hashlib.sha256(b"".join(p.tobytes() for p in result.model.params)).hexdigest()
    print(f"{100 * result.history[-1].test_accuracy:.1f} % of the test points; parameters {digest[:16]}")
