"""Profiles in the database: one living name per project, versions in order, nothing of other projects."""

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.profiles import ProfileNotFound, StatedPreference
from shared.metadata.repositories.profiles import ProfileContent, ProfileExists, ProfileRepository

Sessions = async_sessionmaker[AsyncSession]


def content(system: str = "You help.") -> ProfileContent:
    return ProfileContent(
        [StatedPreference(seed="numbered points")], system, {"composer": "deterministic"}, "multifacet"
    )


async def test_the_current_version_is_the_newest(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        repository = ProfileRepository(session)
        profile, first = await repository.create("one", "ada", content())
        _, second = await repository.change("one", "ada", content("You help more."))
        assert (first.version, second.version) == (1, 2)
        current = await repository.current("one", "ada")
        assert (current.version, current.system) == (2, "You help more.")
        assert current.preferences == [{"seed": "numbered points"}]
        assert (await repository.version(profile, 1)).system == "You help."


async def test_names_belong_to_a_project_and_to_one_living_profile(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        repository = ProfileRepository(session)
        await repository.create("one", "bo", content())
        await repository.create("two", "bo", content("Another."))
        with pytest.raises(ProfileExists):
            await repository.create("one", "bo", content())
        assert (await repository.current("two", "bo")).system == "Another."
        await repository.delete("one", "bo")
        with pytest.raises(ProfileNotFound, match="no profile 'bo'"):
            await repository.current("one", "bo")
        assert (await repository.current("two", "bo")).system == "Another."
        with pytest.raises(ProfileNotFound):
            await repository.change("one", "bo", content())
        assert [one.name for one in await repository.list("two")] == ["bo"]
