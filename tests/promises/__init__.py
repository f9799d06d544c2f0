"""Tests of promises: nothing is lost, nothing gets in, MNIST is learnt."""
