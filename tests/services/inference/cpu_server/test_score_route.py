"""`/score`, and what a reward model does not do."""

from typing import Any

import pytest

from shared.chat_template import ConversationTokenizer
from tests.support.model_server import RunningServer

QUESTION = {"role": "user", "content": "What is 2 + 2?"}


def test_conversations_are_scored_in_order_on_the_tokens_that_training_has(reward_server: RunningServer) -> None:
    reward_server.engine.scored.clear()
    replies = ["Four.", "It is four, I think."]
    conversations = [[QUESTION, {"role": "assistant", "content": reply}] for reply in replies]
    scores = reward_server.post("/score", {"conversations": conversations}).json()["scores"]
    [encoded] = ConversationTokenizer(reward_server.engine.tokenizer).encode(
        [([{"role": "user", "content": "What is 2 + 2?"}], replies)]
    )
    expected = [reply.prompt_ids + reply.reply_ids for reply in encoded]
    assert reward_server.engine.scored == expected
    assert scores == [float(len(tokens)) for tokens in expected]


@pytest.mark.parametrize(
    ("conversations", "said"),
    [
        ([], "1 to 8"),
        ([[QUESTION, {"role": "assistant", "content": "x"}]] * 9, "1 to 8"),
        ([[QUESTION]], "assistant's"),
        ([[{"role": "assistant", "content": "x"}]], "assistant's"),
        ([[]], "empty"),
        ([[QUESTION, QUESTION, {"role": "assistant", "content": "x"}]], "user, user"),
        ([[QUESTION, {"role": "assistant", "content": "été " * 300}]], "conversation 0 has"),
    ],
)
def test_conversations_that_cannot_be_scored_are_refused_in_words(
    reward_server: RunningServer, conversations: list[Any], said: str
) -> None:
    response = reward_server.post("/score", {"conversations": conversations})
    assert response.status_code == 422
    assert said in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", {"inputs": "Hello"}),
        ("/generate", {"inputs": "Hello"}),
        ("/generate_stream", {"inputs": "Hello"}),
        ("/v1/chat/completions", {"messages": [QUESTION]}),
        ("/v1/completions", {"prompt": "Hello"}),
        ("/invocations", {"inputs": "Hello"}),
    ],
)
def test_a_reward_model_does_not_write(reward_server: RunningServer, path: str, body: dict[str, Any]) -> None:
    response = reward_server.post(path, body)
    assert response.status_code == 422
    assert "/score" in response.text


def test_a_language_model_gives_no_scores(server: RunningServer) -> None:
    response = server.post("/score", {"conversations": [[QUESTION, {"role": "assistant", "content": "x"}]]})
    assert response.status_code == 422
    assert "reward model" in response.json()["error"]


def test_a_reward_model_tells_what_it_is(reward_server: RunningServer) -> None:
    info = reward_server.get("/info").json()
    assert (info["is_reward_model"], info["model_pipeline_tag"]) == (True, "text-classification")
    assert reward_server.post("/tokenize", {"inputs": "Hello"}).status_code == 200
