"""Push a finished model to the Hub, where a training asks for it. Off by default, private by default."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from huggingface_hub import HfApi

from services.training.registration.saving import refuse_pickles
from shared.domain.errors import InputRefused
from shared.domain.training import TrainParameters

TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105 - the variable's name

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def check_hub(
    parameters: TrainParameters, environment: Mapping[str, str] = os.environ, pointer: str | None = None
) -> None:
    """Raise InputRefused before training starts where the push that `parameters` ask for could not happen at its end."""
    repository = parameters.push_to_hub
    if repository is None:
        return
    if not _REPOSITORY.fullmatch(repository) or "--" in repository or ".." in repository:
        raise InputRefused(
            f"push_to_hub is {repository!r}, which is no repository; set it to owner/name, as in my-team/janus-sft",
            pointer,
        )
    if not environment.get(TOKEN_VARIABLE):
        raise InputRefused(
            f"push_to_hub names {repository}, but the worker's environment has no {TOKEN_VARIABLE}; set one that may write to "
            "it, or leave push_to_hub out",
            pointer,
        )
    if environment.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise InputRefused(
            f"push_to_hub names {repository}, but the worker's environment sets HF_HUB_OFFLINE; unset it there, or leave "
            "push_to_hub out",
            pointer,
        )


class Push(msgspec.Struct, frozen=True):
    """What became of a push; exactly one of the two is set."""

    address: str | None = None
    """Of the commit."""
    problem: str | None = None


def push_model(folder: Path, repository: str, *, message: str, api: HfApi | None = None) -> Push:
    """Upload the registered folder. A repository that is not there is made, private; one that is there keeps its visibility.

    The token is the environment's. What the Hub says against it is returned and not raised: the model is finished by then,
    and is registered whether or not it could be pushed.
    """
    refuse_pickles(folder)
    api = api or HfApi(token=os.environ.get(TOKEN_VARIABLE))
    try:
        api.create_repo(repository, repo_type="model", private=True, exist_ok=True)
        commit = api.upload_folder(repo_id=repository, repo_type="model", folder_path=folder, commit_message=message)
    except Exception as error:  # noqa: BLE001  network, rights, quota: the Hub's client has errors of many families
        return Push(
            problem=f"the model could not be pushed to {repository} ({type(error).__name__}: {error}); it can be "
            "downloaded from the registry and pushed by hand"
        )
    return Push(address=str(commit.commit_url))
