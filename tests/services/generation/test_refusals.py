"""Refusals are told from answers by how they open, in the languages that people mostly ask in."""

import pytest

from services.generation.validation import is_refusal


@pytest.mark.parametrize(
    "text",
    [
        "I cannot assist with this.",
        "I’m unable to provide an answer to that.",
        "Sorry, I can't comply with this request.",
        '"I am sorry, but as a careful assistant I cannot do that."',
        "As an AI language model, I don't have opinions on that.",
        "I must decline to write this.",
        "Unfortunately, I won't be able to help you with that.",
        "I apologize, but I cannot assist with that request.",
        "I apologise, but I am not able to do this.",
        "My apologies, but I'm unable to help here.",
        "I'm sorry, but that's against my guidelines.",
        "Sorry, that's not something I can help with.",
        "That's not something I'm able to do.",
        "This is something I can't do.",
        "I must respectfully decline.",
        "I must decline this request.",
        "I'll have to decline.",
        "I don't feel comfortable discussing that.",
        "I'm not comfortable writing that story.",
        "I'm not going to help with that.",
        "I cannot in good conscience write this.",
        "It is not appropriate for me to answer.",
        "It would not be appropriate to discuss that.",
        "I'd rather not talk about this topic.",
        "I won't be able to answer that.",
        "I can't help with that.",
        "Sorry, can't help with that one.",
        "I’m afraid I have to decline.",
        "I refuse.",
        "Your request goes against the rules that I follow.",
        "Es tut mir leid, aber dabei kann ich dir nicht helfen.",
        "Ich kann diese Anfrage leider nicht erfüllen.",
        "Leider kann ich das nicht beantworten.",
        "Je suis désolé, mais je ne peux pas répondre à cette demande.",
        "Désolée, je ne peux pas vous aider.",
        "Lo siento, pero no puedo ayudar con eso.",
        "No puedo ayudarte con esa solicitud.",
        "Mi dispiace, ma non posso aiutarti.",
        "Desculpe, mas não posso ajudar com isso.",
        "Het spijt me, maar daar kan ik niet mee helpen.",
        "Извините, но я не могу помочь с этим.",
        "抱歉，我无法帮助您完成这个请求。",
        "申し訳ありませんが、そのご依頼にはお応えできません。",
        "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    ],
)
def test_short_refusals_are_found(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I am sorry to hear about your tree. Cut the dead wood first.",
        "I can't stress enough how useful a sharp saw is.",
        "Sorry for the mess your cat made! Use vinegar.",
        "Unfortunately, the museum closed in 2019.",
        "Unfortunately, cats can't digest onions.",
        "Unfortunately, no: glass cannot be welded at home.",
        "I'm sorry, but I can't say it more briefly: " + "cut one branch after another. " * 20,
        "No, the moon does not shine by itself.",
        "You can't help but admire it.",
        "I refuse is the first person singular of the verb.",
        "That's something I can explain in two lines.",
        "This is not something to fear: bees sting only when pressed.",
        "I'd rather have tea, said the baker.",
        "It is not appropriate to wear shoes in a mosque.",
        "I would not prune a cherry in winter.",
        "I am going to the market, she wrote.",
        "Sorry is the title of a song from 2015.",
        "Apologies in German: Entschuldigung.",
        "Es tut weh, weil der Nerv gereizt ist.",
        "Leider ist das Museum am Montag geschlossen.",
        "No puedo means I cannot.",
        "Malheureusement, le musée est fermé.",
    ],
)
def test_answers_are_no_refusals(text: str) -> None:
    assert not is_refusal(text)
