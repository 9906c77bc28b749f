"""Profiles of people. A change makes a new version; versions are never changed."""

import builtins
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.domain.errors import MultifacetError
from shared.domain.identifiers import new_id
from shared.domain.profiles import ProfileNotFound, StatedPreference
from shared.metadata.tables import Profile, ProfileVersion, Project


class ProfileExists(MultifacetError):
    """The project has a profile of this name (409)."""

    code = "profile_exists"


class ProfileContent(msgspec.Struct, frozen=True):
    """What a version holds."""

    preferences: Sequence[StatedPreference]
    system: str
    composed_by: dict[str, Any]
    taxonomy: str
    note: str = ""


class ProfileRepository:
    """Profiles of projects. A deleted one is out of reach by its name, which is free again."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def create(self, project_id: str, name: str, content: ProfileContent) -> tuple[Profile, ProfileVersion]:
        """A profile with its first version. Raises ProfileExists."""
        await self._session.execute(insert(Project).values(id=project_id).on_conflict_do_nothing())
        statement = (
            insert(Profile)
            .values(id=new_id("profile"), project_id=project_id, name=name, version=1)
            .on_conflict_do_nothing(
                index_elements=["project_id", "name"], index_where=col(Profile.deleted_at).is_(None)
            )
            .returning(Profile)
        )
        profile = (await self._session.execute(statement)).scalar_one_or_none()
        if profile is None:
            raise ProfileExists(
                f"there is a profile {name!r} already; PUT /v1/profiles/{name} gives it a new version, or choose another name"
            )
        return profile, await self._add_version(profile, content)

    async def change(self, project_id: str, name: str, content: ProfileContent) -> tuple[Profile, ProfileVersion]:
        """The next version of a profile, which counts from now on. Raises ProfileNotFound."""
        # One statement takes the number and the lock: two changes at once get two versions.
        statement = (
            sa.update(Profile)
            .where(*_living(project_id, name))
            .values(version=col(Profile.version) + 1, changed_at=sa.func.now())
            .returning(Profile)
            .execution_options(populate_existing=True)
        )
        profile = (await self._session.execute(statement)).scalar_one_or_none()
        if profile is None:
            raise _missing(name)
        return profile, await self._add_version(profile, content)

    async def require(self, project_id: str, name: str) -> Profile:
        """The profile; raises ProfileNotFound."""
        profile = (
            await self._session.execute(sa.select(Profile).where(*_living(project_id, name)))
        ).scalar_one_or_none()
        if profile is None:
            raise _missing(name)
        return profile

    async def current(self, project_id: str, name: str) -> ProfileVersion:
        """The version of a profile that counts. Raises ProfileNotFound."""
        query = (
            sa.select(ProfileVersion)
            .join(
                Profile,
                sa.and_(
                    col(Profile.id) == col(ProfileVersion.profile_id),
                    col(Profile.version) == col(ProfileVersion.version),
                ),
            )
            .where(*_living(project_id, name))
        )
        version = (await self._session.execute(query)).scalar_one_or_none()
        if version is None:
            raise _missing(name)
        return version

    async def version(self, profile: Profile, number: int) -> ProfileVersion:
        """One version of a profile. Raises ProfileNotFound."""
        query = sa.select(ProfileVersion).where(
            col(ProfileVersion.profile_id) == profile.id, col(ProfileVersion.version) == number
        )
        version = (await self._session.execute(query)).scalar_one_or_none()
        if version is None:
            raise ProfileNotFound(
                f"the profile {profile.name!r} has no version {number}; its newest is {profile.version}"
            )
        return version

    async def versions(
        self, profile: Profile, *, before: int | None = None, limit: int = 50
    ) -> builtins.list[ProfileVersion]:
        """Newest first; `before` is the last number of the page before."""
        query = sa.select(ProfileVersion).where(col(ProfileVersion.profile_id) == profile.id)
        if before is not None:
            query = query.where(col(ProfileVersion.version) < before)
        query = query.order_by(col(ProfileVersion.version).desc()).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())

    async def list(self, project_id: str, *, before: str | None = None, limit: int = 50) -> builtins.list[Profile]:
        """Living profiles, newest first; `before` is the last id of the page before."""
        query = sa.select(Profile).where(col(Profile.project_id) == project_id, col(Profile.deleted_at).is_(None))
        if before is not None:
            query = query.where(col(Profile.id) < before)
        query = query.order_by(col(Profile.id).desc()).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())

    async def current_of(self, profiles: Sequence[Profile]) -> dict[str, ProfileVersion]:
        """Profile id -> the version that counts."""
        place = sa.tuple_(col(ProfileVersion.profile_id), col(ProfileVersion.version))
        query = sa.select(ProfileVersion).where(place.in_([(profile.id, profile.version) for profile in profiles]))
        return {version.profile_id: version for version in (await self._session.execute(query)).scalars()}

    async def delete(self, project_id: str, name: str) -> None:
        """Take a profile out of use. Its versions stay with its id, for what was answered by them. Raises ProfileNotFound."""
        statement = (
            sa.update(Profile)
            .where(*_living(project_id, name))
            .values(deleted_at=sa.func.now())
            .returning(col(Profile.id))
        )
        if (await self._session.execute(statement)).scalar_one_or_none() is None:
            raise _missing(name)

    async def _add_version(self, profile: Profile, content: ProfileContent) -> ProfileVersion:
        statement = (
            sa.insert(ProfileVersion)
            .values(
                profile_id=profile.id,
                version=profile.version,
                preferences=[stated.model_dump(mode="json", exclude_none=True) for stated in content.preferences],
                system=content.system,
                composed_by=content.composed_by,
                taxonomy=content.taxonomy,
                note=content.note,
            )
            .returning(ProfileVersion)
        )
        return (await self._session.execute(statement)).scalar_one()


def _living(project_id: str, name: str) -> tuple[sa.ColumnElement[bool], ...]:
    return col(Profile.project_id) == project_id, col(Profile.name) == name, col(Profile.deleted_at).is_(None)


def _missing(name: str) -> ProfileNotFound:
    return ProfileNotFound(f"there is no profile {name!r} in this project; GET /v1/profiles lists them")
