"""Pushes to the Hugging Face Hub: a queue on disk, uploads, pushes while a run trains, checkpoints on a branch."""
