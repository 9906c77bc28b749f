"""Prometheus metrics: TGI's names where the meaning is TGI's, `multifacet_engine_*` for what the engine alone knows.

Text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/).
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from services.inference.cpu_server.engine.protocol import EngineCounters
from services.inference.cpu_server.http.limits import Limits

CONTENT_TYPE = "text/plain; version=0.0.4"

# TGI's own bounds: from 0.15 milliseconds up by half each time.
_DURATIONS = tuple(0.0001 * 1.5**step for step in range(1, 36))


class Histogram:
    """Counts of values at or below each bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> list[str]:
        lines, total = [], 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{"+Inf" if bound is None else f"{bound:.6g}"}"}} {total}')
        return [*lines, f"{name}_sum {self._sum:.9g}", f"{name}_count {total}"]


class Metrics:
    """What happened to requests since the start."""

    def __init__(self, limits: Limits) -> None:
        self.requests = 0
        """Requests of the routes that generate or score."""
        self.successes = 0
        """Sequences that came to their end."""
        self.failures: Counter[str] = Counter()
        self.request_duration = Histogram(_DURATIONS)
        self.validation_duration = Histogram(_DURATIONS)
        self.queue_duration = Histogram(_DURATIONS)
        self.inference_duration = Histogram(_DURATIONS)
        self.mean_time_per_token_duration = Histogram(_DURATIONS)
        self.input_length = Histogram(_hundredths(limits.max_input_tokens))
        self.generated_tokens = Histogram(_hundredths(limits.max_total_tokens))
        self.max_new_tokens = Histogram(_hundredths(limits.max_total_tokens))

    def text(self, engine: EngineCounters) -> str:
        """All of it for a scrape."""
        lines: list[str] = []

        def tell(name: str, kind: str, text: str, values: list[str]) -> None:
            lines.extend([f"# HELP {name} {text}", f"# TYPE {name} {kind}", *values])

        def number(name: str, kind: str, text: str, value: float, labels: str = "") -> None:
            tell(name, kind, text, [f"{name}{labels} {value:.12g}"])

        number("tgi_request_count", "counter", "Requests to generate or score.", self.requests)
        number("tgi_request_success", "counter", "Sequences that came to their end.", self.successes)
        tell(
            "tgi_request_failure",
            "counter",
            "Sequences and requests that did not, by reason.",
            [f'tgi_request_failure{{err="{reason}"}} {count}' for reason, count in sorted(self.failures.items())],
        )
        for name, text, histogram in (
            ("tgi_request_duration", "Seconds from the request to its end.", self.request_duration),
            ("tgi_request_validation_duration", "Seconds of checks and tokenising.", self.validation_duration),
            ("tgi_request_queue_duration", "Seconds in the queue.", self.queue_duration),
            ("tgi_request_inference_duration", "Seconds from the queue to the end.", self.inference_duration),
            (
                "tgi_request_mean_time_per_token_duration",
                "Seconds per token of each sequence, in the mean.",
                self.mean_time_per_token_duration,
            ),
            ("tgi_request_input_length", "Tokens of each prompt.", self.input_length),
            ("tgi_request_generated_tokens", "Tokens of each answer.", self.generated_tokens),
            ("tgi_request_max_new_tokens", "Tokens that each answer might have.", self.max_new_tokens),
        ):
            tell(name, "histogram", text, histogram.lines(name))
        number("tgi_queue_size", "gauge", "Sequences that wait.", engine.waiting)
        number("tgi_batch_current_size", "gauge", "Sequences that run.", engine.running)
        number(
            "tgi_batch_inference_count", "counter", "Forward passes that decoded.", engine.steps, '{method="decode"}'
        )
        for name, text, value in (
            ("step_seconds", "Seconds of these passes.", engine.step_seconds),
            ("prompt_tokens", "Tokens read.", engine.prompt_tokens),
            ("generated_tokens", "Tokens written.", engine.generated_tokens),
            ("cancelled", "Sequences whose client left.", engine.cancelled),
            ("failed", "Sequences that a forward pass failed on.", engine.failed),
        ):
            number(f"multifacet_engine_{name}_total", "counter", text, value)
        tell(
            "multifacet_engine_steps_total",
            "counter",
            "Forward passes that decoded, by how many sequences they held.",
            [
                f'multifacet_engine_steps_total{{batch="{size}"}} {count}'
                for size, count in sorted(engine.batch_sizes.items())
            ],
        )
        return "\n".join(lines) + "\n"


def _hundredths(maximum: int) -> list[float]:
    return [maximum * step / 100 for step in range(1, 101)]
