"""Processes beside the trainer: ``parent`` is its side, ``child`` the inside of such a process."""
