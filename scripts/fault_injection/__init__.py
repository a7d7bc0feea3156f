"""The fault matrix as a program: real runs, real faults, one line a row. Started by ``scripts/faults``."""
