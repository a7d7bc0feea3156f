"""Tasks: one file each. A new one is a frozen dataclass, in a recipe file too."""
