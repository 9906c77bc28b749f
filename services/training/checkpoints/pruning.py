"""Take out what no training will go on from. A manifest goes before its files: what is half deleted is seen by nobody."""

from services.training.checkpoints.blocking_store import BlockingStore
from services.training.checkpoints.finding import list_checkpoints
from services.training.checkpoints.manifest import MANIFEST_NAME

KEPT = 2
"""Complete checkpoints of a training in the store: the newest, and one more should the newest turn out to be damaged."""


def prune(store: BlockingStore, prefix: str, fingerprint: str, attempt_id: int, kept: int = KEPT) -> list[str]:
    """Delete all but the newest `kept` checkpoints of this training; returns the folders that went.

    To be called by the attempt that runs, between its uploads: torn checkpoints are then of attempts that died, or of its own
    uploads that were given up. What a later attempt wrote is left alone: then this one has lost its lease without knowing.
    """
    listing = list_checkpoints(store, prefix)
    own = [stored for stored in listing.complete if stored.manifest.fingerprint == fingerprint]
    keep = {stored.folder for stored in own[:kept]}
    candidates = [(stored.folder, stored.attempt_id) for stored in listing.complete]
    candidates += [*listing.torn, *((folder, attempt) for folder, attempt, _ in listing.unreadable)]
    gone = sorted(folder for folder, attempt in candidates if folder not in keep and attempt <= attempt_id)
    for folder in gone:
        _delete_folder(store, folder)
    return gone


def remove_all(store: BlockingStore, prefix: str) -> None:
    """Delete every checkpoint of a training that has succeeded."""
    for info in sorted(store.list_objects(f"{prefix}/"), key=lambda info: not info.key.endswith(f"/{MANIFEST_NAME}")):
        store.delete(info.key)


def _delete_folder(store: BlockingStore, folder: str) -> None:
    store.delete(f"{folder}/{MANIFEST_NAME}")
    for info in store.list_objects(f"{folder}/"):
        store.delete(info.key)
