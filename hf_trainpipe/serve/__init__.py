"""A server around a package: HTTP in, the runtime's answers out.

Nothing here knows how a model computes: it asks the predictor of the package. Needs the extra ``serve``
(fastapi, uvicorn, prometheus-client), and neither accelerate nor datasets nor a tracker.
"""

from __future__ import annotations
