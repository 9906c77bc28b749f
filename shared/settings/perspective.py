"""Whether toxicity can be scored by the Perspective API here."""

from shared.domain.errors import InputRefused
from shared.settings import Settings

PERSPECTIVE_POINTER = "/evaluate/measure/toxicity/perspective"


def require_perspective_key(settings: Settings) -> None:
    """Raise InputRefused where the operator has set no key."""
    if not settings.perspective_key.get_secret_value().strip():
        raise InputRefused(
            "toxicity shall be scored by Perspective, but the operator has set no key; set MULTIFACET_PERSPECTIVE_KEY where the "
            "workers and the api run, or name a classifier",
            PERSPECTIVE_POINTER,
        )
