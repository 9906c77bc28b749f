"""The headers in which TGI tells what an answer took. Times are in milliseconds, `x-compute-time` in seconds."""

from collections.abc import Sequence

from services.inference.cpu_server.http.sequences import Whole


def stream_headers(device: str, characters: int) -> dict[str, str]:
    """`device`: what the model runs on; `characters`: of the prompt."""
    return {"x-compute-type": device, "x-compute-characters": str(characters)}


def compute_headers(device: str, characters: int, results: Sequence[Whole]) -> dict[str, str]:
    """Sums over the sequences of an answer."""
    times = [result.times for result in results]
    milliseconds = {
        "x-total-time": sum(one.total for one in times),
        "x-validation-time": sum(one.validation for one in times),
        "x-queue-time": sum(one.queue for one in times),
        "x-inference-time": sum(one.inference for one in times),
        "x-time-per-token": sum(one.per_token for one in times),
    }
    return {
        **stream_headers(device, characters),
        "x-compute-time": f"{sum(one.total for one in times):.6f}",
        **{name: str(int(seconds * 1000)) for name, seconds in milliseconds.items()},
        "x-prompt-tokens": str(sum(result.input_length for result in results)),
        "x-generated-tokens": str(sum(result.end.generated_tokens for result in results)),
    }
