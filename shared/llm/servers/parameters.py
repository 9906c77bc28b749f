"""What every adapter does with parameters before it writes them: ranges checked, values that change nothing left out."""

import json
from typing import Any, NoReturn

import msgspec

from shared.llm.servers.errors import InvalidRequest
from shared.llm.servers.protocol import GenerationParameters, Grammar

MOST_TOP_TOKENS = 5


def settled(parameters: GenerationParameters, *, chat: bool = False, stream: bool = False) -> GenerationParameters:
    """The parameters with everything that changes nothing set to None.

    A temperature of 0 asks for the most likely token, as OpenAI has it; `top_p` and `top_k` always keep that one, so they go.

    Raises:
        InvalidRequest: a value outside its range, or values that contradict each other or the route.
    """
    _check_ranges(parameters)
    if parameters.top_tokens and not parameters.log_probabilities:
        raise InvalidRequest(
            f"top_tokens is {parameters.top_tokens} without log_probabilities, which alone tell them; set log_probabilities"
        )
    if parameters.prompt_log_probabilities and (chat or stream):
        route = "chat" if chat else "a stream"
        raise InvalidRequest(
            f"prompt_log_probabilities was asked of {route}, which no server tells them in; ask generate, without a stream"
        )
    greedy = parameters.temperature == 0
    if greedy and parameters.typical_p is not None and parameters.typical_p < 1:
        raise InvalidRequest(
            "typical_p was given with temperature 0: typical sampling may leave out the most likely token, which temperature 0 "
            "takes; leave one of them out"
        )
    return msgspec.structs.replace(
        parameters,
        temperature=None if greedy else parameters.temperature,
        top_p=None if greedy or parameters.top_p == 1 else parameters.top_p,
        top_k=None if greedy else parameters.top_k,
        typical_p=None if parameters.typical_p == 1 else parameters.typical_p,
        repetition_penalty=None if parameters.repetition_penalty == 1 else parameters.repetition_penalty,
        frequency_penalty=None if parameters.frequency_penalty == 0 else parameters.frequency_penalty,
    )


def samples(parameters: GenerationParameters) -> bool:
    """Whether tokens are drawn, as opposed to the most likely one being taken. Of settled parameters."""
    return (
        parameters.temperature is not None
        or parameters.top_p is not None
        or parameters.top_k is not None
        or parameters.typical_p is not None
    )


def schema_of(grammar: Grammar) -> dict[str, Any]:
    """The JSON schema of a `json` grammar. Raises InvalidRequest where it is no object."""
    value: Any = grammar.value
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InvalidRequest(f"the grammar's value is no JSON ({error}); give a JSON schema") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"the grammar's value is a {type(value).__name__}; give a JSON schema, which is an object")
    return value


def pattern_of(grammar: Grammar) -> str:
    """The regular expression of a `regex` grammar. Raises InvalidRequest where it is no text."""
    if not isinstance(grammar.value, str):
        raise InvalidRequest(f"the grammar's value is a {type(grammar.value).__name__}; a regex is a text")
    return grammar.value


def refuse(parameter: str, server: str, why: str, instead: str) -> NoReturn:
    """Raises InvalidRequest: a parameter that this kind of server cannot carry out."""
    raise InvalidRequest(f"{parameter} was asked of {server}, {why}; {instead}")


def _check_ranges(parameters: GenerationParameters) -> None:
    wrong = _first_wrong(parameters)
    if wrong is not None:
        name, value, allowed = wrong
        raise InvalidRequest(f"{name} is {value}; set it {allowed}, or leave it out")


def _first_wrong(parameters: GenerationParameters) -> tuple[str, object, str] | None:
    if parameters.max_new_tokens is not None and parameters.max_new_tokens < 1:
        return "max_new_tokens", parameters.max_new_tokens, "to 1 or more"
    if parameters.temperature is not None and not parameters.temperature >= 0:
        return "temperature", parameters.temperature, "above 0 (0 takes the most likely token)"
    if parameters.top_p is not None and not 0 < parameters.top_p <= 1:
        return "top_p", parameters.top_p, "above 0 and not above 1"
    if parameters.typical_p is not None and not 0 < parameters.typical_p <= 1:
        return "typical_p", parameters.typical_p, "above 0 and not above 1"
    if parameters.top_k is not None and parameters.top_k < 1:
        return "top_k", parameters.top_k, "to 1 or more"
    if parameters.repetition_penalty is not None and not parameters.repetition_penalty > 0:
        return "repetition_penalty", parameters.repetition_penalty, "above 0"
    if parameters.frequency_penalty is not None and not -2 <= parameters.frequency_penalty <= 2:
        return "frequency_penalty", parameters.frequency_penalty, "from -2 to 2"
    if parameters.seed is not None and parameters.seed < 0:
        return "seed", parameters.seed, "to 0 or more"
    if not all(parameters.stop):
        return "stop", "a list with an empty text", "to texts of at least one character"
    if not 0 <= parameters.top_tokens <= MOST_TOP_TOKENS:
        return "top_tokens", parameters.top_tokens, f"from 0 to {MOST_TOP_TOKENS}"
    return None
