"""Runs and packages in Python: ``Run.open`` and ``hf_trainpipe.load``."""
