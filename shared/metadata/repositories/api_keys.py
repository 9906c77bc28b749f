"""API keys and the browser sessions that were traded for them. Only hashes are kept."""

import builtins
import secrets
from collections.abc import Sequence
from hashlib import sha256

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from shared.domain.errors import InputRefused
from shared.domain.identifiers import new_id
from shared.metadata.tables import ApiKey, Project

SCOPES = ("chat", "read", "write", "admin")
"""`chat` calls models alone; each of `write` and `admin` grants all that stands before it, `read` grants no `chat`."""

KEY_PREFIX = "mf_"
SESSION_PREFIX = "mfs_"
_SESSION_KIND = "session"


class KeyLimits(msgspec.Struct, frozen=True):
    """What the live requests of a key may take; None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Prompts and answers together."""
    tokens_per_day: int | None = None
    """Of a UTC day, prompts and answers together."""


class LiveKey(msgspec.Struct, frozen=True):
    """A valid key or browser session, as live requests need it."""

    id: str
    counted_as: str
    """The key whose limits count: of a browser session, the one that it was traded for."""
    project_id: str
    scopes: tuple[str, ...]
    limits: KeyLimits


def hash_of(secret: str) -> str:
    """Hex sha256 of a key. A key holds 256 random bits, so a slow password hash would add nothing."""
    return sha256(secret.encode()).hexdigest()


class ApiKeyRepository:
    """Keys of projects. A browser session is a key row with an expiry, named after the key that it came from."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def create(
        self,
        project_id: str,
        name: str,
        scopes: Sequence[str],
        *,
        secret: str | None = None,
        limits: KeyLimits | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key (and its project, where it is new); returns the row and the key itself, which is kept nowhere.

        `secret` is a key that the operator chose (at least 32 characters after the prefix `mf_`). Raises InputRefused for
        an unknown scope, a weak key, or one that another project holds. The same key given again is the same row.
        """
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise InputRefused(
                f"scopes are some of {', '.join(SCOPES)}; seen: {', '.join(unknown) or 'none'}", "/scopes"
            )
        if secret is None:
            secret = KEY_PREFIX + secrets.token_urlsafe(32)
        elif not secret.startswith(KEY_PREFIX) or len(secret) < len(KEY_PREFIX) + 32:
            raise InputRefused(f"a key starts with {KEY_PREFIX} and holds at least 32 characters after that")
        await self._session.execute(insert(Project).values(id=project_id).on_conflict_do_nothing())
        statement = insert(ApiKey).values(
            id=new_id("key"),
            project_id=project_id,
            name=name,
            key_sha256=hash_of(secret),
            scopes=[scope for scope in SCOPES if scope in scopes],
            **msgspec.structs.asdict(limits or KeyLimits()),
        )
        await self._session.execute(statement.on_conflict_do_nothing(index_elements=["key_sha256"]))
        query = sa.select(ApiKey).where(col(ApiKey.key_sha256) == hash_of(secret))
        key = (await self._session.execute(query)).scalar_one()
        if key.project_id != project_id or key.revoked_at is not None:
            raise InputRefused(
                "this key was used before, for another project or until it was revoked; choose a new one"
            )
        return key, secret

    async def create_session(self, parent: ApiKey, seconds: int) -> str:
        """A browser session with the rights of `parent`, valid for `seconds`; returns its secret. Old ones are removed."""
        await self._session.execute(
            sa.delete(ApiKey)
            .where(col(ApiKey.id).like(f"{_SESSION_KIND}\\_%"), col(ApiKey.expires_at) < sa.func.now())
            .execution_options(synchronize_session=False)
        )
        secret = SESSION_PREFIX + secrets.token_urlsafe(32)
        await self._session.execute(
            sa.insert(ApiKey).values(
                id=new_id(_SESSION_KIND),
                project_id=parent.project_id,
                name=parent.id,
                key_sha256=hash_of(secret),
                scopes=parent.scopes,
                expires_at=sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds),
            )
        )
        return secret

    async def find(self, secret: str) -> ApiKey | None:
        """The valid key or session with that secret: not revoked, not expired by the database's clock."""
        query = sa.select(ApiKey).where(
            col(ApiKey.key_sha256) == hash_of(secret),
            col(ApiKey.revoked_at).is_(None),
            sa.or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > sa.func.now()),
        )
        return (await self._session.execute(query)).scalar_one_or_none()

    async def find_live(self, secret_sha256: str) -> LiveKey | None:
        """As `find`, by the secret's `hash_of`, with the limits that count: those of a session are its key's."""
        parent = aliased(ApiKey)
        query = (
            sa.select(ApiKey, parent)
            .outerjoin(parent, sa.and_(col(ApiKey.id).like(f"{_SESSION_KIND}\\_%"), col(parent.id) == col(ApiKey.name)))
            .where(
                col(ApiKey.key_sha256) == secret_sha256,
                col(ApiKey.revoked_at).is_(None),
                sa.or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > sa.func.now()),
            )
        )
        found = (await self._session.execute(query)).one_or_none()
        if found is None:
            return None
        key, traded = found
        limited = traded or key
        return LiveKey(
            id=key.id,
            counted_as=limited.id,
            project_id=key.project_id,
            scopes=tuple(key.scopes),
            limits=KeyLimits(limited.requests_per_minute, limited.tokens_per_minute, limited.tokens_per_day),
        )

    async def list(self, project_id: str) -> builtins.list[ApiKey]:
        """Keys of a project, newest first, revoked ones included, sessions left out."""
        query = (
            sa.select(ApiKey)
            .where(col(ApiKey.project_id) == project_id, col(ApiKey.id).like("key\\_%"))
            .order_by(col(ApiKey.id).desc())
        )
        return builtins.list((await self._session.execute(query)).scalars())

    async def revoke(self, project_id: str, key_id: str) -> ApiKey | None:
        """End a key and every session that was traded for it; None where the project has no such key."""
        query = (
            sa.update(ApiKey)
            .where(col(ApiKey.project_id) == project_id, col(ApiKey.id) == key_id)
            .values(revoked_at=sa.func.coalesce(col(ApiKey.revoked_at), sa.func.now()))
            .returning(ApiKey)
            .execution_options(synchronize_session=False)
        )
        key = (await self._session.execute(query)).scalar_one_or_none()
        if key is not None:
            await self._session.execute(
                sa.delete(ApiKey)
                .where(
                    col(ApiKey.project_id) == project_id, col(ApiKey.name) == key_id, col(ApiKey.id).like("session\\_%")
                )
                .execution_options(synchronize_session=False)
            )
        return key

    async def end_session(self, secret: str) -> None:
        """Log out: remove a browser session; no error where there is none."""
        await self._session.execute(
            sa.delete(ApiKey)
            .where(col(ApiKey.key_sha256) == hash_of(secret), col(ApiKey.id).like("session\\_%"))
            .execution_options(synchronize_session=False)
        )
