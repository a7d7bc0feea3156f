"""One run, from its recipe to its package: ``execute`` is the table of contents."""
