"""Everything an operator sets, by environment variables that start with MULTIFACET_ (or an `.env`-free compose file)."""

import logging
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings.secrets import read_secret, refuse_known, with_password

ENVIRONMENT_PREFIX = "MULTIFACET_"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Age = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Seconds after which something goes; 0: it stays."""

SHORTEST_UNNAMED_SECONDS = 3600.0
"""An upload or a commit under way is not taken for a leftover."""

_DATABASE_SCHEMES = ("postgresql://", "postgresql+", "postgres://")
_REDIS_SCHEMES = ("redis://", "rediss://")

_SECRETS = (
    "database_password",
    "redis_password",
    "s3_access_key",
    "s3_secret_key",
    "perspective_key",
    "launcher_token",
    "metrics_token",
)
"""Fields with a `<field>_file` before them, whose content stands before their own value."""


def _secret_file(name: str) -> Any:
    return Field(
        default=None, description=f"file that holds `{name}`; stands before the variable where it is not empty"
    )


class Settings(BaseSettings):
    """One flat list, read once per process. Durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="ignore", frozen=True)

    database_password_file: Path | None = _secret_file("database_password")
    database_password: SecretStr = Field(
        default=SecretStr(""), validate_default=True, description="of the user that `database_url` names without one"
    )
    database_url: str = Field(
        default="postgresql+psycopg://multifacet@localhost/multifacet",
        validate_default=True,
        description="SQLAlchemy URL; psycopg 3 only",
    )
    database_patience_seconds: Seconds = Field(
        default=30.0,
        description="an answer of PostgreSQL that takes longer counts as a lost connection, a transaction left open for "
        "so long is ended; less than the lease",
    )
    redis_password_file: Path | None = _secret_file("redis_password")
    redis_password: SecretStr = Field(
        default=SecretStr(""), validate_default=True, description="where `redis_url` has none"
    )
    redis_url: str = Field(default="redis://localhost:6379/0", validate_default=True)

    artifact_store: Literal["directory", "s3"] = "directory"
    artifact_directory: Path = Path("artifacts")
    s3_endpoint: str = Field(default="localhost:9000", description="host:port of MinIO or any S3 server")
    s3_access_key_file: Path | None = _secret_file("s3_access_key")
    s3_access_key: str = Field(default="", validate_default=True)
    s3_secret_key_file: Path | None = _secret_file("s3_secret_key")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), validate_default=True)
    s3_bucket: str = "multifacet"
    s3_secure: bool = False
    s3_timeout_seconds: Seconds = Field(
        default=60.0, description="a store that says nothing for so long is asked again on another connection"
    )

    providers_file: Path | None = Field(
        default=None, description="YAML of LLM providers; default: what the package ships"
    )

    authentication: Literal["keys", "loopback"] = Field(
        default="keys", description="`loopback` asks for no key and is refused unless the api listens on 127.0.0.1"
    )
    bootstrap_key: SecretStr = Field(
        default=SecretStr(""), description="an admin key of project `default` that the api makes sure of when it starts"
    )
    bootstrap_key_file: Path | None = Field(default=None, description="file with that key; stands before the variable")
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=0, le=65_535)
    api_workers: int = Field(default=1, ge=1, le=64, description="processes that answer at the api's port")
    upload_limit_bytes: int = Field(default=2 << 30, ge=1)

    perspective_key_file: Path | None = _secret_file("perspective_key")
    perspective_key: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
        description="key of the Perspective API, where evaluations may score toxicity by it",
    )
    perspective_url: str = Field(
        default="https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze", description="its address"
    )
    perspective_requests_per_second: float = Field(default=1.0, gt=0, description="what its quota allows")

    live_open_requests: int = Field(
        default=256, ge=1, description="live requests that one api process has open at once; more are answered 503"
    )
    live_prompt_characters: int = Field(
        default=400_000, ge=1, description="of all messages of one live request together"
    )
    live_answer_tokens: int = Field(default=8192, ge=1, description="the most that one live request may ask for")
    live_first_piece_seconds: Seconds = Field(
        default=60.0, description="a model server that has said nothing for so long has failed the live request"
    )
    live_request_seconds: Seconds = Field(default=600.0, description="one live request with its whole answer")

    lease_seconds: Seconds = 60.0
    heartbeat_seconds: Seconds = 15.0
    heartbeat_give_up_seconds: Seconds = Field(
        default=45.0, description="no successful heartbeat for so long: stop, write nothing"
    )
    cancel_grace_seconds: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    controller_tick_seconds: Seconds = 1.0
    redispatch_seconds: Seconds = Field(default=30.0, description="a doorbell unanswered for so long is rung again")
    worker_slots: int = Field(default=2, ge=1, description="steps that one worker runs at once")
    worker_most_slots: int = Field(
        default=16, ge=1, description="the same, while steps wait for retries and slow answers and LLM calls run dry"
    )
    worker_idle_seconds: Seconds | None = Field(
        default=None, description="a worker with nothing to do for so long leaves with exit status 0; null: never"
    )
    pool_minimum: int = Field(
        default=0, ge=0, description="so many workers of the same roles stay, however idle they are"
    )
    docker_url: str = Field(
        default="", description="where the autoscaler lists and starts containers: http://host:port or unix:///path"
    )
    docker_project: str = Field(
        default="", description="Compose project whose containers the autoscaler starts; empty: every labelled one"
    )
    autoscaler_seconds: Seconds = Field(
        default=2.0, description="between two looks of the autoscaler at the demand; twice that while no step waits"
    )
    work_folder: Path | None = Field(default=None, description="scratch space; default: the system's temporary folder")
    models_folder: Path | None = Field(
        default=None, description="folder of base models that trainings may name; null: none can be named"
    )
    maximum_in_flight: int = Field(default=64, ge=1, description="LLM calls that one worker process has open at once")
    llm_request_timeout_seconds: Seconds = Field(
        default=180.0, description="one try of an LLM call, then it is tried again"
    )
    llm_call_deadline_seconds: Seconds = Field(
        default=900.0,
        description="all tries of one LLM call with the pauses between them; queueing does not count",
    )
    llm_circuit_open_seconds: Seconds = Field(
        default=30.0, description="a provider that fails every call is left alone for so long"
    )
    llm_cache_ttl_seconds: Seconds = Field(default=30 * 86_400.0, description="age at which a stored answer expires")

    launcher_token_file: Path | None = _secret_file("launcher_token")
    launcher_token: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
        description="what launchers of model servers send; without it none is heard",
    )
    launcher_lease_seconds: Seconds = Field(
        default=20.0,
        description="a launcher that reports nothing for so long counts as gone; it reports every 2 to 4 s",
    )
    gpus: int | None = Field(default=None, ge=0, le=64, description="GPUs of this machine; null: those that are seen")
    gpu_host: str = Field(default="", max_length=200, description="name of the machine whose GPUs are shared")
    gpu_lease_seconds: Seconds = Field(
        default=600.0, description="a model server that cannot report for so long gives its GPUs up"
    )

    health_file: Path | None = Field(
        default=None, description="file that the process touches while its work goes on; see shared.telemetry.healthy"
    )

    metrics_token_file: Path | None = _secret_file("metrics_token")
    metrics_token: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
        description="what Prometheus sends to the api's /metrics; without it nobody reads them there",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        description="address of an OpenTelemetry collector (OTLP over HTTP), `http://host:4318`; null: no traces",
    )
    trace_share: float = Field(default=1.0, ge=0, le=1, description="part of the traces that is kept")

    retention_interval_seconds: Seconds = Field(
        default=3600.0, description="how often the controller looks for what is past its age"
    )
    retention_unnamed_seconds: Age = Field(
        default=86_400.0,
        description="objects in the store that nothing names, such as those of lost attempts; 0: never",
    )
    retention_checkpoints_seconds: Age = Field(
        default=7 * 86_400.0, description="checkpoints of trainings, after the end of their job; 0: never"
    )
    retention_artifacts_seconds: Age = Field(
        default=0.0, description="what a job made, after its end, but for what something still needs; 0: never"
    )
    retention_uploads_seconds: Age = Field(
        default=0.0, description="uploaded files that no bench and no job with its artifacts names; 0: never"
    )
    retention_events_seconds: Age = Field(
        default=0.0, description="events of a job, after its end, but for those of its state; 0: never"
    )
    retention_idempotency_seconds: Age = Field(default=0.0, description="idempotency keys of submissions; 0: never")
    retention_reference_seconds: Age = Field(
        default=0.0, description="log-probabilities of reference models that trainings by DPO keep; 0: never"
    )

    log_level: str = "INFO"
    log_format: Literal["json", "text"] = "json"

    @field_validator(*(f"{name}_file" for name in _SECRETS))
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        if path is not None:
            read_secret(path)
        return path

    @field_validator(*_SECRETS, mode="before")
    @classmethod
    def _of_its_file(cls, value: Any, info: ValidationInfo) -> Any:
        path: Path | None = info.data.get(f"{info.field_name}_file")
        return (read_secret(path) or value) if path is not None else value

    @field_validator(*_SECRETS)
    @classmethod
    def _not_known_to_everybody(cls, value: str | SecretStr, info: ValidationInfo) -> str | SecretStr:
        if info.field_name != "s3_access_key":  # the name of a user, which is no secret by itself
            refuse_known(value.get_secret_value() if isinstance(value, SecretStr) else value)
        return value

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, url: str, info: ValidationInfo) -> str:
        if not url.startswith(_DATABASE_SCHEMES):
            raise ValueError("it is no URL of PostgreSQL; give postgresql+psycopg://user:password@host:port/database")
        return with_password(url, _set_apart(info, "database_password"), user_needed=True)

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, url: str, info: ValidationInfo) -> str:
        if not url.startswith(_REDIS_SCHEMES):
            raise ValueError("it is no URL of Redis; give redis://host:port/number")
        return with_password(url, _set_apart(info, "redis_password"), user_needed=False)

    @field_validator("docker_url")
    @classmethod
    def _docker(cls, url: str) -> str:
        if url and not url.startswith(("http://", "unix:///")):
            raise ValueError(f"{url!r} is no address of a Docker engine; give http://host:port or unix:///path")
        return url

    @field_validator("retention_unnamed_seconds")
    @classmethod
    def _not_at_once(cls, seconds: float) -> float:
        if 0 < seconds < SHORTEST_UNNAMED_SECONDS:
            raise ValueError(
                f"what is being uploaded would be taken for a leftover; give at least {SHORTEST_UNNAMED_SECONDS:g}, or 0 for "
                "never"
            )
        return seconds

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.upper() not in logging.getLevelNamesMapping():
            raise ValueError("it is no level; give DEBUG, INFO, WARNING or ERROR")
        return level

    @field_validator("otlp_endpoint")
    @classmethod
    def _address(cls, endpoint: str | None) -> str | None:
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise ValueError("it is no address; give http://host:4318, without /v1/traces")
        return endpoint or None

    @field_validator("s3_endpoint")
    @classmethod
    def _no_scheme(cls, endpoint: str) -> str:
        if "/" in endpoint:
            raise ValueError(
                f"{endpoint!r} is an address; give host:port alone, and set MULTIFACET_S3_SECURE=true for https"
            )
        return endpoint


def _set_apart(info: ValidationInfo, name: str) -> str:
    password = info.data.get(name)  # absent where it was refused itself
    return password.get_secret_value().strip() if isinstance(password, SecretStr) else ""


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process."""
    return Settings()
