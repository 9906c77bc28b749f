"""Whoever judges is the simulator, or a model that a test makes up: the product's own handlers do."""

from services.evaluation.handlers import HANDLERS

__all__ = ["HANDLERS"]
