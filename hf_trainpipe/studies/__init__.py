"""Verbs that make several runs, each an ordinary one in a process of its own.

runs        start a run, follow it, end it, read how it ended
"""
