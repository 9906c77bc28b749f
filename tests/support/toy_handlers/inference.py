"""Whoever answers is a deployment that a test makes up: the product's own handlers do."""

from services.inference.handlers import HANDLERS

__all__ = ["HANDLERS"]
