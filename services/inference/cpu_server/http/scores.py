"""`/score`: what a reward model gives each conversation. Ours; TGI serves no reward models."""

import time

from starlette.responses import Response

from services.inference.cpu_server.engine.protocol import EngineFailed, EngineOverloaded
from services.inference.cpu_server.http.bodies import ScoreBody
from services.inference.cpu_server.http.errors import Refusal
from services.inference.cpu_server.http.json_bodies import json_response
from services.inference.cpu_server.http.replies import Scores
from services.inference.cpu_server.http.sequences import Service


async def score(service: Service, body: ScoreBody) -> Response:
    """One score per conversation, in order. A conversation may be as long as prompt and answer together."""
    since = time.monotonic()
    service.require_reward_model()
    maximum = service.limits.max_concurrent_requests
    if not 1 <= len(body.conversations) <= maximum:
        raise Refusal.invalid(f"`conversations` has {len(body.conversations)} items; send 1 to {maximum} at once")
    permit = service.permit()
    try:
        sequences = [await service.texts.scored(conversation) for conversation in body.conversations]
        for place, sequence in enumerate(sequences):
            beyond = len(sequence) - service.limits.max_total_tokens
            if beyond > 0:
                raise Refusal.invalid(
                    f"conversation {place} has {len(sequence)} tokens, which is {beyond} tokens too many: at most "
                    f"{service.limits.max_total_tokens} are taken here (max_total_tokens)"
                )
        scores = await service.engine.score(sequences)
    except EngineOverloaded as error:
        raise Refusal.overloaded(str(error)) from error
    except EngineFailed as error:
        raise service.failed(error) from error
    finally:
        permit.release()
    service.metrics.successes += 1
    service.metrics.request_duration.observe(time.monotonic() - since)
    return json_response(Scores(scores))
