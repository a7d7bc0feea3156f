"""A package's network as a SavedModel of TensorFlow, and for LiteRT.

``add`` and ``environment`` run beside torch; ``worker``, ``graph`` and ``operators`` in an environment of TensorFlow, where
hf_trainpipe is not installed, so that this file imports nothing.
"""
