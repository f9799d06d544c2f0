"""The network, its backpropagation and everything that a step computes, in pure Array API.

No array library is named here, no array is read back to the host, and none is written into.
"""
