"""What one server takes, as its command line says and `/info` tells."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Names and defaults as `text-generation-launcher` has them; lengths are in tokens."""

    max_input_tokens: int
    """Of a prompt."""
    max_total_tokens: int
    """Of prompt and answer together."""
    max_concurrent_requests: int = 128
    """Sequences that run or wait; one more is answered 429."""
    max_best_of: int = 2
    max_stop_sequences: int = 4
    max_top_n_tokens: int = 5
    max_client_batch_size: int = 4
    """Prompts of one `/v1/completions`."""
    payload_limit: int = 2_000_000
    """Bytes of a request's body."""
