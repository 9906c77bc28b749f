"""Checks a request by TGI's rules (3.3.7) and makes of it what the engine takes. Nothing reaches the engine unchecked."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from services.inference.cpu_server.engine.protocol import EngineRequest
from services.inference.cpu_server.http.bodies import GenerateParameters, GrammarBody
from services.inference.cpu_server.http.errors import Refusal
from services.inference.cpu_server.http.limits import Limits
from shared.llm.servers.protocol import Grammar

_SEED_BITS = 53
"""Of seeds drawn here: every JSON reader keeps such a number exactly, so it can be sent again."""


def check_parameters(parameters: GenerateParameters, limits: Limits, *, streaming: bool) -> None:
    """What can be checked without the prompt's tokens. Raises Refusal."""
    best_of = 1 if parameters.best_of is None else parameters.best_of
    if streaming and best_of != 1:
        raise _wrong("best_of", best_of, "an answer that streams is one", "leave it out, or do not stream")
    if not 1 <= best_of <= limits.max_best_of:
        raise _wrong("best_of", best_of, f"it must be 1 to {limits.max_best_of} here")
    if best_of > 1 and not samples(parameters):
        raise _wrong("best_of", best_of, "without sampling all answers are the same", "set do_sample to true")
    if best_of > 1 and parameters.seed is not None:
        raise _wrong("best_of", best_of, "one seed makes all answers the same", "leave out `seed`")
    if streaming and parameters.decoder_input_details:
        raise _wrong("decoder_input_details", True, "a stream does not tell the prompt's tokens", "do not stream")
    _check_numbers(parameters)
    if parameters.max_new_tokens == 0:
        raise _wrong("max_new_tokens", 0, "it must be 1 or more")
    if len(parameters.stop) > limits.max_stop_sequences:
        raise Refusal.invalid(
            f"`stop` has {len(parameters.stop)} texts; at most {limits.max_stop_sequences} are taken here"
        )
    if "" in parameters.stop:
        raise Refusal.invalid("`stop` has an empty text, which stands everywhere; leave it out")
    if parameters.seed is not None and parameters.seed >= 2**64:
        raise _wrong("seed", parameters.seed, "it must be below 2^64")
    top = parameters.top_n_tokens or 0
    if top > limits.max_top_n_tokens:
        raise _wrong("top_n_tokens", top, f"it must be 0 to {limits.max_top_n_tokens} here")
    if parameters.truncate is not None and not 1 <= parameters.truncate <= limits.max_input_tokens:
        raise _wrong("truncate", parameters.truncate, f"it must be 1 to {limits.max_input_tokens} tokens here")
    if parameters.watermark:
        raise _wrong("watermark", True, "answers are not watermarked here", "leave it out")


def engine_request(
    parameters: GenerateParameters, prompt_ids: Sequence[int], limits: Limits, adapter: str | None
) -> EngineRequest:
    """One sequence of a request whose parameters were checked. Without a seed one is drawn.

    Raises Refusal for a prompt that is empty or, alone or with its answer, too long, and for a grammar of the wrong form.
    """
    if parameters.truncate is not None:
        prompt_ids = prompt_ids[-parameters.truncate :]
    length = len(prompt_ids)
    if length == 0:
        raise Refusal.invalid("the prompt has no tokens; send a text")
    if length > limits.max_input_tokens:
        raise Refusal.invalid(
            f"the prompt has {length} tokens, which is {length - limits.max_input_tokens} tokens too many: at most "
            f"{limits.max_input_tokens} are taken here (max_input_tokens); shorten it, or set `truncate`"
        )
    wanted = parameters.max_new_tokens
    room = limits.max_total_tokens - length
    if room < 1 or (wanted is not None and wanted > room):
        asked = 1 if wanted is None else wanted
        raise Refusal.invalid(
            f"the prompt has {length} tokens and `max_new_tokens` is {asked}, together {asked - room} tokens too many: at most "
            f"{limits.max_total_tokens} are taken here (max_total_tokens); shorten the prompt or ask for fewer"
        )
    return EngineRequest(
        prompt_ids=prompt_ids,
        max_new_tokens=room if wanted is None else wanted,
        sample=samples(parameters),
        temperature=1.0 if parameters.temperature is None else parameters.temperature,
        top_k=parameters.top_k,
        top_p=parameters.top_p,
        typical_p=parameters.typical_p,
        repetition_penalty=_unless(parameters.repetition_penalty, 1.0),
        frequency_penalty=_unless(parameters.frequency_penalty, 0.0),
        seed=secrets.randbits(_SEED_BITS) if parameters.seed is None else parameters.seed,
        stop=tuple(parameters.stop),
        grammar=None if parameters.grammar is None else to_grammar(parameters.grammar),
        top_tokens=parameters.top_n_tokens or 0,
        prompt_log_probabilities=parameters.decoder_input_details,
        adapter=adapter,
    )


def samples(parameters: GenerateParameters) -> bool:
    """Whether tokens are drawn: where that is asked for, or anything that only matters to a draw is set."""
    return parameters.do_sample or any(
        value is not None
        for value in (parameters.temperature, parameters.top_k, parameters.top_p, parameters.typical_p)
    )


def to_grammar(body: GrammarBody) -> Grammar:
    """What the whole text must be. `json_object` without a schema is any JSON object. Raises Refusal."""
    if body.type == "regex":
        if not isinstance(body.value, str):
            raise Refusal.invalid(f"a grammar of type regex has its expression in `value`; seen: {_kind(body.value)}")
        return Grammar("regex", body.value)
    if body.type == "json_schema":
        wrapped = body.value if body.json_schema is None else body.json_schema
        schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
        if not isinstance(schema, dict):
            raise Refusal.invalid(
                "a grammar of type json_schema has `value` (or `json_schema`) with a JSON schema in `schema`; seen: "
                f"{_kind(schema if isinstance(wrapped, dict) else wrapped)}"
            )
        return Grammar("json", schema)
    if body.type == "json_object" and body.value is None:
        return Grammar("json", {"type": "object"})
    schema = body.value
    if isinstance(schema, str):
        try:
            schema = msgspec.json.decode(schema)
        except msgspec.DecodeError:
            raise Refusal.invalid("the grammar's `value` is a text that is not JSON; send the schema itself") from None
    if not isinstance(schema, dict):
        raise Refusal.invalid(f"a grammar of type json has a JSON schema in `value`; seen: {_kind(schema)}")
    return Grammar("json", schema)


def _check_numbers(parameters: GenerateParameters) -> None:
    if parameters.temperature is not None and not parameters.temperature > 0:
        raise _wrong("temperature", parameters.temperature, "it must be above 0", "leave it out to take the likeliest")
    for name, share in (("top_p", parameters.top_p), ("typical_p", parameters.typical_p)):
        if share is not None and not 0 < share < 1:
            raise _wrong(name, share, "it must be above 0 and below 1", "leave it out for no cut")
    if parameters.top_k is not None and not 0 < parameters.top_k < 2**31:
        raise _wrong("top_k", parameters.top_k, "it must be 1 or more", "leave it out for no cut")
    if parameters.repetition_penalty is not None and not parameters.repetition_penalty > 0:
        raise _wrong("repetition_penalty", parameters.repetition_penalty, "it must be above 0; 1 changes nothing")
    if parameters.frequency_penalty is not None and not -2 <= parameters.frequency_penalty <= 2:
        raise _wrong("frequency_penalty", parameters.frequency_penalty, "it must be -2 to 2; 0 changes nothing")


def _wrong(name: str, value: object, why: str, remedy: str | None = None) -> Refusal:
    shown = str(value).lower() if isinstance(value, bool) else value
    return Refusal.invalid(f"`{name}` is {shown}, but {why}" + (f"; {remedy}" if remedy else ""))


def _unless(value: float | None, neutral: float) -> float | None:
    return None if value == neutral else value


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
