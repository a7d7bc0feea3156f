"""The network: without padding, in exact fp32, by torch or ONNX Runtime."""
