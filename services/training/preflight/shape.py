"""The sizes of a model that memory depends on, read from its configuration."""

from typing import Any

import msgspec

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


class ModelShape(msgspec.Struct, frozen=True):
    """A dense decoder with gated feed-forward layers, such as Mistral, Llama and Qwen."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    feed_forward: int
    embedding_rows: int
    tied_embeddings: bool = False

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        """Width of all key heads together; that of all value heads too."""
        return self.key_value_heads * self.head_size

    @property
    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """Name → (inputs, outputs) of the linear maps of one layer, as transformers calls them."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.feed_forward),
            "up_proj": (self.hidden, self.feed_forward),
            "down_proj": (self.feed_forward, self.hidden),
        }

    @property
    def linear_parameters(self) -> int:
        """Of the linear maps of all layers."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linear_layers.values())

    @property
    def embedding_parameters(self) -> int:
        return self.embedding_rows * self.hidden

    @property
    def norm_parameters(self) -> int:
        return (2 * self.layers + 1) * self.hidden


def shape_of_config(config: Any) -> ModelShape | None:
    """From a transformers configuration (or a dictionary with its names); None where it is no model of this kind, such as one
    with several experts, whose memory the estimate here does not know."""

    sizes = [
        _value(config, name)
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    ]
    rows = _value(config, "vocab_size")
    if any(_value(config, name) for name in _EXPERTS) or not all(
        isinstance(size, int) and size > 0 for size in (*sizes, rows)
    ):
        return None
    hidden, layers, heads, feed_forward = sizes
    return ModelShape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        key_value_heads=_value(config, "num_key_value_heads") or heads,
        head_size=_value(config, "head_dim") or hidden // heads,
        feed_forward=feed_forward,
        embedding_rows=rows,
        tied_embeddings=bool(_value(config, "tie_word_embeddings")),
    )


def embedding_rows(config: Any) -> int | None:
    """Rows of the embedding: how many token ids the model knows; None where the configuration does not say."""
    rows = _value(config, "vocab_size")
    return rows if isinstance(rows, int) else None


def _value(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)
