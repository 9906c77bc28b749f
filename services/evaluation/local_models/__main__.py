"""`python -m services.evaluation.local_models <parameters as JSON>`: loads the models, says so, then answers one request per
line.

In: {"prompt": …, "texts": […], "best": […]} on standard input. Out: {"toxicity": […], "perplexity": […], "distances": […]}, each
where the model for it is loaded. The process ends when its standard input is closed, so it never outlives the worker.
"""

import os
import sys
from typing import Any

import orjson

from services.evaluation.local_models.places import place_of
from shared.domain.errors import InputRefused
from shared.domain.evaluations import MeasureParameters
from shared.settings import get_settings
from shared.telemetry.logs import configure_logging

POINTER = "/evaluate/measure"


def main() -> int:
    # The replies alone go to where the worker reads; whatever a library prints goes to the log.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    configure_logging(get_settings(), "local_models")
    parameters = MeasureParameters.model_validate_json(sys.argv[1])
    try:
        models = _Models(parameters)
    except InputRefused as error:
        return _say(replies, {"error": str(error), "pointer": error.pointer})
    except (OSError, ValueError) as error:
        return _say(replies, {"error": str(error).splitlines()[0], "pointer": POINTER})
    _say(replies, {"ready": True})
    for line in sys.stdin.buffer:
        _say(replies, models.answer(orjson.loads(line)))
    return 0


class _Models:
    def __init__(self, parameters: MeasureParameters) -> None:
        folder = get_settings().models_folder
        toxicity = parameters.toxicity
        wanted = {
            "toxicity/classifier": None if toxicity is None else toxicity.classifier,
            "fluency": parameters.fluency,
            "embedding": parameters.embedding,
        }
        # Before torch is loaded: a folder that is not there is told at once.
        places = {
            name: place_of(model, folder, f"{POINTER}/{name}") for name, model in wanted.items() if model is not None
        }
        import torch

        from services.evaluation.local_models.scoring import Encoder, Fluency, ToxicityClassifier

        torch.set_num_threads(1)
        self._toxicity = self._fluency = self._encoder = None
        if toxicity is not None and (place := places.get("toxicity/classifier")) is not None:
            self._toxicity = ToxicityClassifier(*place, toxicity.label)
        if (place := places.get("fluency")) is not None:
            self._fluency = Fluency(*place)
        if (place := places.get("embedding")) is not None:
            self._encoder = Encoder(*place)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        texts, best = request["texts"], request["best"]
        found: dict[str, Any] = {}
        if self._toxicity is not None:
            found["toxicity"] = self._toxicity.scores(texts)
        if self._fluency is not None:
            found["perplexity"] = self._fluency.perplexities(request["prompt"], texts)
        if self._encoder is not None and len(best) > 1:
            found["distances"] = self._encoder.distances(best)
        return found


def _say(replies: Any, value: dict[str, Any]) -> int:
    replies.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    replies.flush()
    return 1 if "error" in value else 0


if __name__ == "__main__":
    sys.exit(main())
