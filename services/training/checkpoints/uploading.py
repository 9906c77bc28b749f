"""Upload checkpoints while training goes on: one at a time, from a folder that the Trainer no longer touches."""

import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from services.training.checkpoints.blocking_store import BlockingStore
from services.training.checkpoints.manifest import (
    MANIFEST_NAME,
    CheckpointFile,
    CheckpointManifest,
    checkpoint_files,
    encode_manifest,
    missing_kinds,
)
from services.training.checkpoints.pruning import prune
from shared.artifacts.layout import checkpoint_folder
from shared.domain.errors import StepFailed

LONGEST_PAUSE = 60.0
"""Seconds between two tries while training goes on."""

HURRIED_PAUSE = 1.0
"""Seconds between two tries once somebody waits for the upload."""


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4, ... up to LONGEST_PAUSE."""
    return min(LONGEST_PAUSE, 2.0 ** (failures - 1))


class _Snapshot(msgspec.Struct):
    folder: Path
    step: int
    tokens: int
    stored: dict[str, CheckpointFile]
    """Files that are in the store already: a new try goes on after them."""


class CheckpointUploader:
    """Takes finished checkpoint folders and stores them from a thread of its own.

    A folder is moved into `spool` (which must lie on the same file system) and deleted when it is stored. While one is under
    way, the newest of the others waits and older ones are dropped, so that at most two lie on the disk. A failed upload
    is told and tried again until it succeeds or a newer checkpoint waits; it never stops the training.

    `tell` is given sentences about failures, `on_stored` each manifest once it is written; both are called from the thread.
    """

    def __init__(
        self,
        store: BlockingStore,
        prefix: str,
        *,
        attempt_id: int,
        fingerprint: str,
        world_size: int,
        spool: Path,
        tell: Callable[[str], None],
        on_stored: Callable[[CheckpointManifest], None],
        pause: Callable[[int], float] = pause_after,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._attempt_id = attempt_id
        self._fingerprint = fingerprint
        self._world_size = world_size
        self._spool = spool
        self._tell = tell
        self._on_stored = on_stored
        self._pause = pause
        self._changed = threading.Condition()
        self._waiting: _Snapshot | None = None
        self._active: _Snapshot | None = None
        self._submitted_step: int | None = None
        self._stored_step: int | None = None
        self._hurried = False
        self._closed = False
        shutil.rmtree(spool, ignore_errors=True)
        spool.mkdir(parents=True)
        self._thread = threading.Thread(target=self._work, name="checkpoint-upload", daemon=True)
        self._thread.start()

    def make_room(self) -> None:
        """Drop the checkpoint that waits: a newer one is about to be written, and the disk holds two at most."""
        with self._changed:
            dropped, self._waiting = self._waiting, None
        if dropped is not None:
            shutil.rmtree(dropped.folder, ignore_errors=True)

    def submit(self, folder: Path, step: int, tokens: int) -> None:
        """Take over a finished folder of the Trainer. Raises StepFailed where a file is missing that a resume needs."""
        missing = missing_kinds(checkpoint_files(folder), self._world_size)
        if missing:
            raise StepFailed(
                "checkpoint_incomplete",
                f"the checkpoint of step {step} has no {', no '.join(missing)}: a training could not go on from it. The "
                "trainer must save its whole state (save_only_model off)",
            )
        self.make_room()
        target = self._spool / f"step-{step:08d}"
        folder.rename(target)
        with self._changed:
            self._waiting = _Snapshot(target, step, tokens, {})
            self._submitted_step = step
            self._changed.notify_all()

    def finish(self, seconds: float) -> bool:
        """Wait until the newest checkpoint is stored, `seconds` at most; returns whether it is (also where there is none)."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting is None and self._active is None, seconds)
            self._hurried = False
            return self._stored_step == self._submitted_step

    def close(self) -> None:
        """Take no more, give up what waits and the pauses between tries, and end when the file under way is stored."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        shutil.rmtree(self._spool, ignore_errors=True)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closed)
                if self._closed or self._waiting is None:
                    return
                snapshot, self._waiting = self._waiting, None
                self._active = snapshot
            manifest = self._persist(snapshot)
            shutil.rmtree(snapshot.folder, ignore_errors=True)
            if manifest is not None:
                self._on_stored(manifest)
                self._prune()
            with self._changed:
                if manifest is not None:
                    self._stored_step = snapshot.step
                self._active = None
                self._changed.notify_all()

    def _persist(self, snapshot: _Snapshot) -> CheckpointManifest | None:
        failures = 0
        while True:
            try:
                return self._upload(snapshot)
            except Exception as error:  # noqa: BLE001  a store fails in the ways of its client; training goes on
                failures += 1
                with self._changed:
                    if self._closed or self._waiting is not None:
                        self._told_failure(snapshot, error, "it is given up")
                        return None
                    pause = min(self._pause(failures), HURRIED_PAUSE) if self._hurried else self._pause(failures)
                    hurried = self._hurried
                self._told_failure(snapshot, error, f"next try in {pause:g} s")
                with self._changed:
                    self._changed.wait_for(
                        lambda hurried=hurried: (  # type: ignore[misc]
                            self._waiting is not None or self._closed or self._hurried != hurried
                        ),
                        pause,
                    )

    def _upload(self, snapshot: _Snapshot) -> CheckpointManifest | None:
        key = checkpoint_folder(self._prefix, snapshot.step, self._attempt_id)
        for name in checkpoint_files(snapshot.folder):
            if name in snapshot.stored:
                continue
            if self._closed:
                return None
            stored = self._store.put_file(f"{key}/{name}", snapshot.folder / name)
            snapshot.stored[name] = CheckpointFile(name, stored.sha256, stored.size)
        manifest = CheckpointManifest(
            step=snapshot.step,
            fingerprint=self._fingerprint,
            world_size=self._world_size,
            files=tuple(snapshot.stored.values()),
            tokens=snapshot.tokens,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._store.put_bytes(f"{key}/{MANIFEST_NAME}", encode_manifest(manifest), "application/json")
        return manifest

    def _prune(self) -> None:
        try:
            prune(self._store, self._prefix, self._fingerprint, self._attempt_id)
        except Exception as error:  # noqa: BLE001  what is left over costs space only; the next upload prunes again
            self._tell(f"old checkpoints could not be removed ({type(error).__name__}: {error})")

    def _told_failure(self, snapshot: _Snapshot, error: Exception, then: str) -> None:
        self._tell(
            f"the checkpoint of step {snapshot.step} could not be stored ({type(error).__name__}: {error}); {then}"
        )
