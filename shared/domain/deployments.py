"""Deployments: a model under a name that clients give, on a server that a launcher runs or at a provider."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.domain.errors import MultifacetError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"
"""What deployments and profiles may be called."""


class DeploymentState(StrEnum):
    """`waiting` for a server, `starting` (its server is: for a first revision, or again after it ended), `ready`, `changing` to
    another revision while the one before answers (or until the server has restarted), `failed` (nothing of it can be served:
    its first revision, or one that served and then ended again and again), `stopped` for good."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    CHANGING = "changing"
    FAILED = "failed"
    STOPPED = "stopped"


DEPLOYMENT_TRANSITIONS: dict[DeploymentState, frozenset[DeploymentState]] = {
    DeploymentState.WAITING: frozenset({DeploymentState.STARTING, DeploymentState.READY, DeploymentState.STOPPED}),
    DeploymentState.STARTING: frozenset(
        {DeploymentState.READY, DeploymentState.WAITING, DeploymentState.FAILED, DeploymentState.STOPPED}
    ),
    DeploymentState.READY: frozenset(
        {
            DeploymentState.CHANGING,
            DeploymentState.STARTING,
            DeploymentState.WAITING,
            DeploymentState.FAILED,
            DeploymentState.STOPPED,
        }
    ),
    DeploymentState.CHANGING: frozenset(
        {
            DeploymentState.READY,
            DeploymentState.STARTING,
            DeploymentState.WAITING,
            DeploymentState.FAILED,
            DeploymentState.STOPPED,
        }
    ),
    # A new revision takes a failed deployment up again.
    DeploymentState.FAILED: frozenset(
        {DeploymentState.WAITING, DeploymentState.STARTING, DeploymentState.READY, DeploymentState.STOPPED}
    ),
    DeploymentState.STOPPED: frozenset(),
}


class RevisionState(StrEnum):
    """`pending` until its server says how it went; `replaced` by a later one; `failed` when its server could not serve it."""

    PENDING = "pending"
    READY = "ready"
    REPLACED = "replaced"
    FAILED = "failed"
    STOPPED = "stopped"


class ServerState(StrEnum):
    """What a launcher says of one of its places."""

    EMPTY = "empty"
    FETCHING = "fetching"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    """The wanted model cannot be served; what served before serves again, if anything did."""


class DeploymentNotFound(MultifacetError):
    """No such deployment in this project (404)."""

    code = "deployment_not_found"


class DeploymentConflict(MultifacetError):
    """The deployment's state does not allow it (409)."""

    code = "deployment_conflict"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeploymentTarget(_Part):
    """What is served: exactly one of a registered model, and a model of a provider that the operator configured."""

    registry: str | None = Field(default=None, description="id of a registered model, or of registered adapters")
    provider: str | None = Field(default=None, min_length=1, max_length=64, description="name of a configured provider")
    model: str | None = Field(default=None, min_length=1, max_length=200, description="the provider's model")

    @model_validator(mode="after")
    def exactly_one(self) -> "DeploymentTarget":
        if (self.registry is None) == (self.provider is None):
            seen = "both" if self.registry is not None else "neither"
            raise ValueError(f"a deployment serves a registered model (registry) or a provider's; seen: {seen}")
        if (self.provider is None) is not (self.model is None):
            raise ValueError("a provider's model is named by provider and model together; give both or neither")
        return self


class ServerOptions(_Part):
    """How the server of a registered model is run. Null leaves it to the server."""

    server: Literal["cpu", "tgi"] = Field(default="cpu", description="which kind of model server; tgi needs a GPU")
    maximum_input_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    maximum_total_tokens: int | None = Field(default=None, ge=2, le=1_000_000, description="prompt and answer together")
    maximum_concurrent_requests: int | None = Field(default=None, ge=1, le=10_000)
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    quantize: Literal["bitsandbytes-nf4", "fp8", "eetq"] | None = Field(default=None, description="tgi only")

    @model_validator(mode="after")
    def limits_fit(self) -> "ServerOptions":
        if (
            self.maximum_input_tokens is not None
            and self.maximum_total_tokens is not None
            and self.maximum_input_tokens >= self.maximum_total_tokens
        ):
            raise ValueError(
                f"maximum_input_tokens is {self.maximum_input_tokens}, which leaves no token to answer within "
                f"maximum_total_tokens {self.maximum_total_tokens}; lower it or raise the other"
            )
        if self.quantize is not None and self.server != "tgi":
            raise ValueError("quantize is an option of server tgi; leave it out, or set server to tgi")
        if self.quantize is not None and self.dtype is not None:
            raise ValueError("TGI takes quantize or dtype, not both; leave one of them out")
        if self.dtype == "float32" and self.server == "tgi":
            raise ValueError("TGI serves float16 and bfloat16, not float32; set one of those, or leave dtype out")
        return self

    def arguments(self) -> list[str]:
        """As options of `text-generation-launcher`, which the CPU server takes by the same names."""
        values = {
            "--max-input-tokens": self.maximum_input_tokens,
            "--max-total-tokens": self.maximum_total_tokens,
            "--max-concurrent-requests": self.maximum_concurrent_requests,
            "--dtype": self.dtype,
            "--quantize": self.quantize,
        }
        return [part for name, value in values.items() if value is not None for part in (name, str(value))]


MOST_PLACES = 64
"""Places of one launcher."""

LAUNCHER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
_ADDRESS_PATTERN = r"^http://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$"
_SERVED_PATTERN = r"^[a-z]+_[0-9a-z]+:[0-9]{1,9}$"


class ServerFacts(_Part):
    """What a server says of itself (`/info`), once it is ready."""

    model: str | None = Field(default=None, max_length=300)
    version: str | None = Field(default=None, max_length=100)
    dtype: str | None = Field(default=None, max_length=100)
    maximum_input_tokens: int | None = Field(default=None, ge=0, le=2**31)
    maximum_total_tokens: int | None = Field(default=None, ge=0, le=2**31)


class PlaceReport(_Part):
    """What one place of a launcher does."""

    place: int = Field(ge=0, lt=MOST_PLACES)
    state: ServerState
    about: str | None = Field(
        default=None, pattern=_SERVED_PATTERN, description="`<deployment>:<revision>` that the state is about"
    )
    detail: str = Field(default="", max_length=4000)
    serving: str | None = Field(
        default=None, pattern=_SERVED_PATTERN, description="`<deployment>:<revision>` of what answers at `address`"
    )
    address: str | None = Field(default=None, max_length=300, pattern=_ADDRESS_PATTERN)
    facts: ServerFacts = ServerFacts()

    @model_validator(mode="after")
    def what_serves_has_an_address(self) -> "PlaceReport":
        if (self.serving is None) is not (self.address is None):
            raise ValueError("serving and address are given together: what answers, and where")
        return self


class LauncherReport(_Part):
    """What a launcher says of itself, every few seconds."""

    kind: Literal["cpu", "tgi"]
    host: str = Field(min_length=1, max_length=200, description="whose GPUs it uses")
    gpus_per_place: int = Field(default=0, ge=0, le=64)
    devices: tuple[Annotated[int, Field(ge=0, lt=1024)], ...] = Field(
        default=(), max_length=64, description="GPUs that it can see"
    )
    leaving: bool = Field(default=False, description="it takes nothing more and stops what it runs")
    places: tuple[PlaceReport, ...] = Field(min_length=1, max_length=MOST_PLACES)

    @model_validator(mode="after")
    def numbers_are_unique(self) -> "LauncherReport":
        numbers = [place.place for place in self.places]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"two places have the same number; seen: {numbers}")
        return self


class ServingModel(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that answers now, as whoever calls it needs to know it."""

    name: str
    project_id: str
    deployment_id: str
    revision: int
    state: str
    target: DeploymentTarget
    server_kind: str | None
    """shared.llm.servers.protocol.ServerKind of its server; None for a provider's model."""
    server_address: str | None
    method: str | None
    """Of a registered model: sft, dpo, orpo, rm."""
    is_adapter: bool = False
    maximum_input_tokens: int | None = None
    maximum_total_tokens: int | None = None
    created_at: datetime | None = None
    """Of the deployment."""

    @property
    def answered_by(self) -> str:
        """What stands in provenance and cache keys: which weights answered, whatever the name pointed to before or later."""
        return self.target.registry or f"{self.target.provider}/{self.target.model}"

    @property
    def is_reward_model(self) -> bool:
        return self.method == "rm"
