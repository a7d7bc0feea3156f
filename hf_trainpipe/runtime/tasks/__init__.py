"""What answers a task has: logits into labels, numbers, tags."""
