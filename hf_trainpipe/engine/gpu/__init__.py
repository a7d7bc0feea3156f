"""What makes a training step fast on a GPU: few shapes, CUDA graphs of them, batches that are ready when asked for."""
