"""What travels inside a package: preprocessing, encoding, inference, decoding, predictor, handler.

This folder is copied as it is into every package, under the name ``trainpipe_runtime``, so that what
serves is what was evaluated. Its modules import one another relatively, and besides that only the
standard library, numpy, torch, transformers, (when a step uses them) spaCy and NLTK and (for a package's ONNX model, in their
place) onnxruntime. Importing this package
or its ``preprocessing`` loads none of the heavy ones.
"""

from __future__ import annotations
