"""A teacher's path: eight exercises, from a single neuron to 99 %, and a checker that knows the usual mistakes.

python -m xpnet.learn lists them, and python -m xpnet.learn 3 writes the third one, or checks it. Their lessons are the
pages in docs/learn.
"""
