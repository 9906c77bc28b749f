"""Calls of language models while a client waits: short deadlines, and errors that become an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.api.problems import Problem
from shared.domain.errors import StepDeferred, StepFailed
from shared.llm.models import LanguageModels
from shared.llm.protocol import LanguageModelError
from shared.llm.providers import Providers
from shared.personal.inference.judging import JudgeFailed
from shared.personal.teacher import MessageUnfit
from shared.settings import Settings

CALL_SECONDS = 60.0
"""All tries of one call together; a worker, for whom nobody waits, tries for longer."""


def live_models(settings: Settings, providers: Providers) -> LanguageModels:
    """The language models of an api process."""
    return LanguageModels(
        settings.model_copy(
            update={
                "llm_request_timeout_seconds": min(settings.llm_request_timeout_seconds, CALL_SECONDS),
                "llm_call_deadline_seconds": min(settings.llm_call_deadline_seconds, CALL_SECONDS),
            }
        ),
        providers,
    )


@asynccontextmanager
async def answered_within(seconds: float, what: str) -> AsyncIterator[None]:
    """Around calls of a model, `what` being who is asked: raises Problem for what it raises, 502 where the model failed, 503
    where it may answer later, 504 after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Problem(504, "model_too_slow", f"{what} did not answer within {seconds:g} s; try again later") from error
    except StepDeferred as error:
        raise Problem(
            503,
            "model_unavailable",
            f"{what} does not answer now ({error}); try again later",
            headers={"Retry-After": str(max(1, round(error.seconds)))},
        ) from error
    except StepFailed as error:
        raise Problem(
            502,
            error.code,
            f"{what} cannot be asked ({error.code.replace('_', ' ')}); the operator of this server has to look at its account "
            "and key",
        ) from error
    except (LanguageModelError, MessageUnfit, JudgeFailed) as error:
        raise Problem(502, error.code, f"{what} gave no usable answer: {error}") from error
