"""How alike two texts are: ROUGE-L."""

import re

from rapidfuzz.distance import LCSseq

# A letter, digit or mark run is a token; a character of a script without spaces is a token of its own.
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)


def word_tokens(text: str) -> list[str]:
    """Lower-cased word tokens, in order. Unlike the usual ROUGE tokenizer it keeps letters outside ASCII."""
    return _TOKEN.findall(text.lower())


def rouge_l(a: str, b: str) -> float:
    """ROUGE-L F-measure of two texts, 0 to 1; symmetric; two texts without a word are alike (1) only when equal.

    With L the length of the longest common subsequence of the word tokens: P = L / len(b), R = L / len(a),
    F = 2 P R / (P + R) = 2 L / (len(a) + len(b)). Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of
    Summaries", section 3, with beta = 1 and no stemming.
    """
    return rouge_l_tokens(word_tokens(a), word_tokens(b)) if a != b else 1.0


def rouge_l_tokens(a: list[str], b: list[str]) -> float:
    """`rouge_l` of texts that are already tokens: for comparing one text with many."""
    if not a or not b:
        return 0.0
    return 2 * LCSseq.similarity(a, b) / (len(a) + len(b))
