"""Checkpoints: an atomic store, verified loading, the resume contract, the run lock. No pickle anywhere."""
