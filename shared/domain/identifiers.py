"""Names of things: sortable by time, readable by kind."""

import re
from hashlib import sha256

from ulid import ULID


def new_id(kind: str) -> str:
    """A fresh id such as `job_01ja…`: the kind, then a lower-case ULID (sorts by creation time)."""
    return f"{kind}_{str(ULID()).lower()}"


NAMED_IDENTIFIER = f'"({"|".join(f"{kind}_[0-9a-z]{{26}}" for kind in ("bench", "file", "job", "model"))})"'
"""Regular expression of what a job spec, as JSON text, names: the group is the id. PostgreSQL and Python read it alike."""


def named_identifiers(text: str) -> set[str]:
    """The ids of benches, files, jobs and models that a JSON text holds as values."""
    return set(re.findall(NAMED_IDENTIFIER, text))


def row_id_of(normalised_instruction: str) -> str:
    """First 16 hex digits of the sha256 of the normalised instruction."""
    return sha256(normalised_instruction.encode()).hexdigest()[:16]


def seed_of(*parts: object) -> int:
    """A 63-bit seed from anything that has a stable `str`; the same parts give the same seed on every machine."""
    digest = sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
