"""Provenance: whether rows say which model, prompt version and seed made them."""

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, share_finding

MISSING = Threshold(warn=0.0, bad=0.05)


def measure(data: AuditData) -> list[Finding]:
    """Share of rows without provenance, in a column of the row or in a `provenance.parquet` beside the file."""
    observed = [(row.cluster, not (row.provenance or data.provenance_beside)) for row in data.rows]
    note = "a provenance.parquet lies beside the file" if data.provenance_beside else ""
    return [share_finding("missing_provenance", "Rows without provenance", observed, "rows", MISSING, note=note)]
