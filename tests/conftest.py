"""No test asserts a time: examples of hypothesis have no deadline, on a busy machine either."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("project", deadline=None)
settings.load_profile("project")
