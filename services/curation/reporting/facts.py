"""The control plane's facts about a job, in the shape that report and card print; what is not known stays None."""

from collections.abc import Mapping
from typing import Any

from shared.domain.jobs import JobSpec

_USAGE = ("calls", "cached_calls", "prompt_tokens", "completion_tokens", "retries", "rate_limited")


def job_facts(facts: Mapping[str, Any], spec: JobSpec, job_id: str) -> dict[str, Any]:
    """Facts with a default for each key that may be absent, and usage totals."""
    usage = [_usage(entry) for entry in facts.get("usage") or ()]
    known_costs = [entry["cost_micro_usd"] for entry in usage if entry["cost_micro_usd"] is not None]
    cost = facts.get("cost_micro_usd")
    teacher = spec.teacher
    provider = facts.get("provider") or (None if teacher is None else teacher.provider)
    return {
        "job_id": str(facts.get("job_id") or job_id),
        "created_at": _text(facts.get("created_at")),
        "started_at": _text(facts.get("started_at")),
        "simulator": bool(facts.get("teacher_is_simulator", provider == "simulator")),
        "provider": _text(provider),
        "model": _text(facts.get("model") or (None if teacher is None else teacher.model)),
        "cost_micro_usd": cost if cost is not None else (sum(known_costs) if known_costs else None),
        "unpriced_calls": int(facts.get("unpriced_calls") or 0),
        "usage": usage,
        "usage_total": {name: sum(entry[name] for entry in usage) for name in _USAGE},
        "code_version": _text(facts.get("code_version")),
    }


def _usage(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "stage": str(entry.get("stage") or "unknown"),
        **{name: int(entry.get(name) or 0) for name in _USAGE},
        "cost_micro_usd": entry.get("cost_micro_usd"),
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)
