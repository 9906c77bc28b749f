"""LLM providers as the operator configured them: where they are, which models they serve, limits and prices."""

import os
import re
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.domain.errors import InputRefused, StepFailed
from shared.domain.jobs import ModelChoice
from shared.settings.secrets import FILE_SUFFIX, SecretUnreadable, environment_secret

ANY_MODEL = "*"
"""In a provider's `models`: stands for every model name that is not listed itself."""

RepetitionPenalty = Literal["repetition_penalty", "tgi"]

_ENVIRONMENT_REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProviderLimits(_Part):
    """What a provider grants the account, over all workers. None: unknown, learned from the provider's 429 answers."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    maximum_in_flight: int | None = Field(default=None, ge=1, description="open calls per worker process")


class ModelPrices(_Part):
    """USD per million tokens, which is the same figure as micro-USD per token. None: unknown."""

    prompt_price: float | None = Field(default=None, ge=0)
    completion_price: float | None = Field(default=None, ge=0)


class Provider(_Part):
    """One OpenAI-compatible server."""

    base_url: str = Field(min_length=1)
    api_key_env: str | None = None
    simulator: bool = False
    limits: ProviderLimits = ProviderLimits()
    output_limit_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    structured_output: Literal["json_schema", "prompt"] = Field(
        default="json_schema",
        description="`prompt` writes the schema into the messages, for servers without json_schema",
    )
    repetition_penalty: RepetitionPenalty | None = Field(
        default=None,
        description="how the server takes a repetition penalty: as `repetition_penalty` (vLLM, SGLang), or as TGI's chat route; "
        "null: it takes none, as OpenAI",
    )
    models: dict[str, ModelPrices | None] = Field(min_length=1)


class ResolvedModel(msgspec.Struct, frozen=True):
    """A configured provider and one of its models; or a deployment on a server of ours, see `shared.llm.servers.resolved`."""

    provider_name: str
    provider: Provider
    model: str
    """Of a deployment: which weights answer. It names the model in provenance, usage and cache keys."""
    prompt_price: float | None
    completion_price: float | None
    deployment: str = ""
    """Id of the deployment; empty for a provider's model."""
    server_kind: str = ""
    """Of a deployment, see `shared.llm.servers.protocol.ServerKind`."""
    sent_model: str = ""
    """What the server is told as `model`, where that is not `model`."""

    @property
    def simulator(self) -> bool:
        return self.provider.simulator

    @property
    def priced(self) -> bool:
        return self.prompt_price is not None and self.completion_price is not None

    def base_url(self) -> str:
        """The server's address up to and including `/v1`. Raises StepFailed when it needs an environment variable that is not
        set, or is no http(s) address."""
        url = _expand(self.provider.base_url, self.provider_name)
        if not url.startswith(("http://", "https://")):
            raise StepFailed(
                "provider_not_configured",
                f"provider {self.provider_name!r} has the base_url {url!r}, which is no http(s) address: correct it in the "
                "providers file",
            )
        return url.rstrip("/")

    def chat_url(self) -> str:
        """Where calls go. Raises StepFailed as `base_url` does."""
        return self.base_url() + "/chat/completions"

    def score_url(self) -> str:
        """Where a reward model's server takes conversations: beside `/v1`, not below it."""
        return self.base_url().removesuffix("/v1") + "/score"

    def api_key(self) -> str | None:
        """The key, None for a server without keys. Raises StepFailed when the key's variable is not set."""
        name = self.provider.api_key_env
        if name is None:
            return None
        try:
            key = environment_secret(name)
        except SecretUnreadable as error:
            raise StepFailed("authentication_failed", str(error)) from error
        if not key:
            raise StepFailed(
                "authentication_failed",
                f"provider {self.provider_name!r} needs a key, but the environment variable {name} of this worker is not "
                f"set, nor does {name}{FILE_SUFFIX} name a file that holds it: set it and retry the job",
            )
        return key


class Providers(_Part):
    """All providers that a job may name."""

    providers: dict[str, Provider] = Field(min_length=1)

    def require(self, choice: ModelChoice, pointer: str) -> ResolvedModel:
        """The provider and model of a job's choice.

        Raises:
            InputRefused: unknown provider or model; `pointer` is where the choice stands in the job spec.
        """
        provider = self.providers.get(choice.provider)
        if provider is None:
            raise InputRefused(
                f"provider {choice.provider!r} is not configured; configured are: {', '.join(sorted(self.providers))}",
                f"{pointer}/provider",
            )
        listed = choice.model in provider.models
        if not listed and ANY_MODEL not in provider.models:
            raise InputRefused(
                f"provider {choice.provider!r} has no model {choice.model!r}; it has: {', '.join(sorted(provider.models))}",
                f"{pointer}/model",
            )
        prices = provider.models[choice.model if listed else ANY_MODEL] or ModelPrices()
        return ResolvedModel(
            provider_name=choice.provider,
            provider=provider,
            model=choice.model,
            prompt_price=prices.prompt_price,
            completion_price=prices.completion_price,
        )


def load_providers(path: Path | None) -> Providers:
    """The providers of a YAML file (None: of the file that the package ships).

    Raises:
        InputRefused: the file is missing, is no YAML, or holds an unknown or wrong field.
    """
    name = "the shipped providers.yaml" if path is None else str(path)
    try:
        if path is None:
            text = resources.files("shared.llm").joinpath("providers.yaml").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        return Providers.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise InputRefused(f"cannot read the providers file {name}: {error}; set MULTIFACET_PROVIDERS_FILE") from error
    except yaml.YAMLError as error:
        raise InputRefused(f"{name} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        pointer = "/" + "/".join(str(part) for part in first["loc"])
        raise InputRefused(f"{name}: {first['msg']} at {pointer}", pointer) from error


def _expand(text: str, provider_name: str) -> str:
    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"]) or match["default"]
        if not found:
            raise StepFailed(
                "provider_not_configured",
                f"the base_url of provider {provider_name!r} needs the environment variable {match['name']}, which is not set",
            )
        return found

    return _ENVIRONMENT_REFERENCE.sub(value, text)
