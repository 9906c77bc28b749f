"""Audits of preference data in the released layouts, whoever made it: what is wrong with a set, each figure with its
interval."""

from shared.audit.data import AuditData, load_data
from shared.audit.findings import Finding, Verdict
from shared.audit.run import Audit, Comparison, audit_data, compare

__all__ = ["Audit", "AuditData", "Comparison", "Finding", "Verdict", "audit_data", "compare", "load_data"]
