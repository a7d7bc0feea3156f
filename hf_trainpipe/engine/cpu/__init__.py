"""Faster dropout and word-embedding gradients on a CPU."""
