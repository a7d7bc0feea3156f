"""Requests to a package: read, encoded, run and answered; the handler that Inference Endpoints and SageMaker call."""

from .endpoint import EndpointHandler

__all__ = ["EndpointHandler"]
