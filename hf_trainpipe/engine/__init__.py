"""How a step is computed: threads, precision, optimizer, schedule, randomness."""
