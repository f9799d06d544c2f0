"""The network, its backpropagation and all that a step computes: pure Array API, which names no array library.

Nothing here reads an array back to the host, and nothing writes into one.
"""
