"""Checks before any hour of a GPU is spent: data, tokenizer, memory, disk and store, and what the rows look like as tokens."""

from services.training.preflight.checks import run_preflight
from services.training.preflight.memory import Device, decide_recompute, this_device
from services.training.preflight.report import PreflightReport

__all__ = ["Device", "PreflightReport", "decide_recompute", "run_preflight", "this_device"]
