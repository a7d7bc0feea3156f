"""A look at data before a model learns from it: what repeats, leaks, contradicts itself or is broken. docs/audit.md tells each.

``data/audit.py`` refuses in every run what cannot work; this package finds what works and spoils a score.
"""
