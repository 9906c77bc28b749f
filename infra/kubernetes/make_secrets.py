#!/usr/bin/env python3
"""Writes the Secrets that the cluster's objects name, as JSON for `kubectl create -f -`. Needs nothing but Python.

For a deployment, what exists already comes from the environment, so that it stands in no history of commands:

    read -rs MULTIFACET_DATABASE_URL && export MULTIFACET_DATABASE_URL    # and the others
    python3 infra/kubernetes/make_secrets.py --provider-key OPENAI_API_KEY | kubectl create -f -

For a trial (overlays/trial) everything is made up at random:

    python3 infra/kubernetes/make_secrets.py --trial | kubectl create -f -

`create` and not `apply`: what is there already is never overwritten.
"""

import argparse
import json
import os
import secrets
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

GIVEN = (
    "MULTIFACET_DATABASE_URL",
    "MULTIFACET_REDIS_URL",
    "MULTIFACET_S3_ACCESS_KEY",
    "MULTIFACET_S3_SECRET_KEY",
    "SCALER_PASSWORD",
)
"""Variables that a deployment needs; SCALER_PASSWORD is that of the user in scaler-role.sql."""

SCALER_USER = "multifacet_scaler"
OPTIONAL = {
    "hf-token": "HF_TOKEN",
    "wandb-api-key": "WANDB_API_KEY",
    "perspective-key": "MULTIFACET_PERSPECTIVE_KEY",
}
"""Key in the Secret `multifacet-training`, and the variable that it comes from."""


def password() -> str:
    """256 random bits, in characters that need no quoting in a URL."""
    return secrets.token_urlsafe(32)


def trial_values() -> dict[str, str]:
    """What GIVEN names, for servers inside the namespace."""
    database = password()
    return {
        "MULTIFACET_DATABASE_URL": f"postgresql+psycopg://multifacet:{database}@postgres:5432/multifacet",
        "MULTIFACET_REDIS_URL": "redis://redis:6379/0",
        "MULTIFACET_S3_ACCESS_KEY": f"trial-{secrets.token_hex(6)}",
        "MULTIFACET_S3_SECRET_KEY": password(),
        "SCALER_PASSWORD": database,
    }


def scaler_values(database_url: str, given_password: str, namespace: str, *, trial: bool) -> dict[str, str]:
    """How KEDA, from a namespace of its own, reaches the database.

    Raises ValueError for a URL without host or database.
    """
    parts = urllib.parse.urlsplit(database_url)
    name = parts.path.lstrip("/")
    if not parts.hostname or not name:
        raise ValueError(
            "MULTIFACET_DATABASE_URL names no host or no database; give postgresql+psycopg://…@host:port/database"
        )
    asked = dict(urllib.parse.parse_qsl(parts.query)).get("sslmode")
    return {
        "host": f"{parts.hostname}.{namespace}.svc" if trial else parts.hostname,
        "port": str(parts.port or 5432),
        "database": name,
        "user": urllib.parse.unquote(parts.username or "") if trial else SCALER_USER,
        "password": given_password,
        "sslmode": asked or ("disable" if trial else "require"),
    }


def objects(values: Mapping[str, str], namespace: str, provider_keys: Sequence[str], *, trial: bool) -> dict[str, Any]:
    """A List of Secrets. `values` holds what GIVEN names, the provider keys, and what is there of OPTIONAL.

    Raises ValueError where one of them is missing.
    """
    missing = [name for name in (*GIVEN, *provider_keys) if not values.get(name, "").strip()]
    if missing:
        raise ValueError(f"not set: {', '.join(missing)}; export each, or make up a trial with --trial")
    contents = {
        "multifacet-core": {
            "database-url": values["MULTIFACET_DATABASE_URL"],
            "redis-url": values["MULTIFACET_REDIS_URL"],
            "s3-access-key": values["MULTIFACET_S3_ACCESS_KEY"],
            "s3-secret-key": values["MULTIFACET_S3_SECRET_KEY"],
        },
        "multifacet-scaler": scaler_values(
            values["MULTIFACET_DATABASE_URL"], values["SCALER_PASSWORD"], namespace, trial=trial
        ),
        "multifacet-launcher": {"token": password()},
        "multifacet-bootstrap": {"key": f"mf_{password()}"},
        "multifacet-metrics": {"token": password()},
        "multifacet-providers": {name: values[name] for name in provider_keys},
        "multifacet-training": {key: values[name] for key, name in OPTIONAL.items() if values.get(name, "").strip()},
    }
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {"app.kubernetes.io/part-of": "multifacet"},
                },
                "stringData": content,
            }
            for name, content in contents.items()
            if content
        ],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Write the Secrets of a cluster as JSON, for `kubectl create -f -`.",
        epilog=f"From the environment, unless it is a trial: {', '.join(GIVEN)}; where set: {', '.join(OPTIONAL.values())}.",
    )
    parser.add_argument("--namespace", default="multifacet")
    parser.add_argument("--trial", action="store_true", help="for overlays/trial: everything at random")
    parser.add_argument(
        "--provider-key", action="append", default=[], metavar="VARIABLE", help="an api_key_env of the providers file"
    )
    given = parser.parse_args(arguments)
    values = {**os.environ, **(trial_values() if given.trial else {})}
    try:
        made = objects(values, given.namespace, given.provider_key, trial=given.trial)
    except ValueError as error:
        parser.error(str(error))
    json.dump(made, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
