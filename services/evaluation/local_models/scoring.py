"""Scores of texts by transformers' models: toxicity, perplexity, embeddings. One torch thread, no gradients, batches padded."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

BATCH = 16
_LONGEST = 2048
"""Tokens of a text that are looked at, where the model itself takes no fewer."""
_TOXIC_NAMES = ("toxic", "toxicity")


class ToxicityClassifier:
    """Probability of the label that means toxic: the sigmoid of a multi-label (or one-label) head, the softmax of any other."""

    def __init__(self, place: str, revision: str | None, label: str | None) -> None:
        """Raises ValueError for a label that the model does not have, OSError where it cannot be loaded."""
        self._tokenizer = _tokenizer(place, revision)
        self._model = AutoModelForSequenceClassification.from_pretrained(place, revision=revision).eval()
        names = {int(number): str(name) for number, name in self._model.config.id2label.items()}
        self._position = _label_position(names, label)
        self._sigmoid = self._model.config.problem_type == "multi_label_classification" or len(names) == 1

    @torch.inference_mode()
    def scores(self, texts: Sequence[str]) -> list[float]:
        """0 to 1 for each text."""
        found: list[float] = []
        for batch in _batches(texts):
            logits = self._model(**_encoded(self._tokenizer, batch, self._model)).logits.float()
            shares = torch.sigmoid(logits) if self._sigmoid else torch.softmax(logits, dim=-1)
            found += shares[:, self._position].tolist()
        return found


class Fluency:
    """Perplexity of a text after a prompt: exp of the mean loss over the text's tokens."""

    def __init__(self, place: str, revision: str | None) -> None:
        """Raises OSError where the model cannot be loaded."""
        self._tokenizer = _tokenizer(place, revision)
        model: Any = AutoModelForCausalLM.from_pretrained(place, revision=revision)
        self._model = model.eval()

    @torch.inference_mode()
    def perplexities(self, prompt: str, texts: Sequence[str]) -> list[float | None]:
        """For each text; None for one without a token that could be predicted."""
        before = self._tokenizer(prompt)["input_ids"] if prompt else []
        found: list[float | None] = []
        for text in texts:
            own = self._tokenizer(text, add_special_tokens=not before)["input_ids"]
            tokens = [*before, *own][: _longest(self._model)]
            first = max(len(before), 1)
            if len(tokens) <= first:
                found.append(None)
                continue
            ids = torch.tensor([tokens])
            losses = torch.nn.functional.cross_entropy(
                self._model(ids).logits[0, :-1].float(), ids[0, 1:], reduction="none"
            )
            found.append(float(losses[first - 1 :].mean().exp()))
        return found


class Encoder:
    """A text as the mean of its tokens' last hidden states, of length 1."""

    def __init__(self, place: str, revision: str | None) -> None:
        """Raises OSError where the model cannot be loaded."""
        self._tokenizer = _tokenizer(place, revision)
        self._model = AutoModel.from_pretrained(place, revision=revision).eval()

    @torch.inference_mode()
    def distances(self, texts: Sequence[str]) -> list[float]:
        """For each text the mean cosine distance (0 to 2) to the others; there are two at least."""
        parts = []
        for batch in _batches(texts):
            encoded = _encoded(self._tokenizer, batch, self._model)
            states = self._model(**encoded).last_hidden_state.float()
            mask = encoded["attention_mask"][..., None]
            parts.append((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1))
        vectors = torch.nn.functional.normalize(torch.cat(parts), dim=-1)
        apart = 1 - vectors @ vectors.T
        apart.fill_diagonal_(0)
        found: list[float] = (apart.sum(dim=1) / (len(texts) - 1)).tolist()
        return found


def _label_position(names: dict[int, str], label: str | None) -> int:
    wanted = (label.casefold(),) if label is not None else _TOXIC_NAMES
    for number, name in names.items():
        if name.casefold() in wanted:
            return number
    if label is not None:
        raise ValueError(f"the classifier has no label {label!r}; its labels: {', '.join(names.values())}")
    return max(names)


def _tokenizer(place: str, revision: str | None) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(place, revision=revision)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _encoded(tokenizer: Any, texts: Sequence[str], model: Any) -> Any:
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=_longest(model), return_tensors="pt")
    encoded.pop("token_type_ids", None)
    return encoded


def _longest(model: Any) -> int:
    return min(_LONGEST, int(getattr(model.config, "max_position_embeddings", _LONGEST) or _LONGEST))


def _batches(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
