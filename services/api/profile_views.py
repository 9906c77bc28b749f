"""Bodies and answers of the routes of profiles."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from services.api.schemas import ApiModel, RequestModel
from services.api.submission import DEFAULT_TAXONOMY_ID
from shared.domain.jobs import ModelChoice
from shared.domain.profiles import MAXIMUM_PREFERENCES, StatedPreference
from shared.metadata.tables import Profile, ProfileVersion
from shared.personal.inference.choices import MAXIMUM_CHOICES, Choice
from shared.personal.inference.inferring import DEFAULT_HELD_OUT_SHARE

ProfileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]

PreferenceList = Annotated[
    list[StatedPreference],
    Field(
        max_length=4 * MAXIMUM_PREFERENCES, description=f"1 to {MAXIMUM_PREFERENCES}, in the order in which they matter"
    ),
]


class ComposeRequest(RequestModel):
    """What a person prefers."""

    preferences: PreferenceList
    taxonomy: str = Field(
        default=DEFAULT_TAXONOMY_ID, max_length=100, description="`multifacet`, or the id of an uploaded one"
    )
    teacher: ModelChoice | None = Field(
        default=None, description="a model that words the message; without one it is composed by rule"
    )


class ProfileChange(ComposeRequest):
    note: str = Field(
        default="", max_length=600, pattern=r"^[^\x00]*$", description="for people; the message does not hold it"
    )


class ProfileRequest(ProfileChange):
    name: ProfileName = Field(examples=["ada"], description="what requests give as `profile`")


class ComposedBy(ApiModel):
    """Who worded a message."""

    composer: str = Field(examples=["deterministic"], description="deterministic or teacher")
    version: str | None = Field(default=None, description="of the deterministic composer's words")
    provider: str | None = None
    model: str | None = None
    prompt_version: str | None = None
    taxonomy_version: str | None = None


class PreviewView(ApiModel):
    system: str
    composed_by: ComposedBy


class ProfileVersionView(ApiModel):
    version: int
    preferences: list[StatedPreference]
    system: str = Field(description="the system message that these preferences became")
    composed_by: ComposedBy
    taxonomy: str
    note: str
    created_at: datetime

    @classmethod
    def of(cls, version: ProfileVersion) -> "ProfileVersionView":
        return cls.model_validate(version)


class ProfileSummary(ApiModel):
    id: str = Field(examples=["profile_01jdexample0000000000000000"])
    name: str
    version: int = Field(description="the version that counts, the newest")
    created_at: datetime
    changed_at: datetime

    @classmethod
    def summary_of(cls, profile: Profile) -> "ProfileSummary":
        return cls.model_validate(profile)


class ProfileView(ProfileSummary):
    """A profile with the version that counts."""

    current: ProfileVersionView

    @classmethod
    def of(cls, profile: Profile, version: ProfileVersion) -> "ProfileView":
        summary: dict[str, Any] = ProfileSummary.summary_of(profile).model_dump()
        return cls(**summary, current=ProfileVersionView.of(version))


class InferRequest(RequestModel):
    """What a person chose."""

    choices: list[Choice] = Field(min_length=1, max_length=MAXIMUM_CHOICES)
    taxonomy: str = Field(
        default=DEFAULT_TAXONOMY_ID, max_length=100, description="`multifacet`, or the id of an uploaded one"
    )
    judge: ModelChoice | None = Field(
        default=None,
        description="a model that reads the answers for what no program measures; at most 400 choices then",
    )
    held_out_share: float = Field(
        default=DEFAULT_HELD_OUT_SHARE,
        ge=0.05,
        le=0.5,
        description="share of the prompts that is held out at a time; each prompt is held out once",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="of the folds and of all chance")
