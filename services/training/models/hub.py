"""Models from the Hub: data files of one revision, into a folder."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from shared.domain.errors import InputRefused
from shared.model_folder import HUB_PATTERNS


def fetch_from_hub(repository: str, revision: str | None, cache: Path | None = None) -> Path:
    """Fetch safetensors, configuration and tokenizer of a Hub model; the folder that holds them.

    Raises InputRefused where the model or revision does not exist, is not open to this machine's token, or the Hub cannot be
    reached and the cache has it not.
    """
    try:
        return Path(
            snapshot_download(repository, revision=revision, cache_dir=cache, allow_patterns=list(HUB_PATTERNS))
        )
    except RevisionNotFoundError as error:
        raise InputRefused(
            f"the Hub model {repository} has no revision {revision!r}; leave hub_revision out"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputRefused(
            f"the Hub has no model {repository}, or this machine may not read it; check the name, or set HF_TOKEN"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise InputRefused(
            f"the Hub model {repository} cannot be fetched ({error}); check the network, or put the model into the operator's "
            "models folder and set base to {folder: <name>}"
        ) from error
