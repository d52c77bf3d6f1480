# ruff: noqa: RUF001 - the letters of other scripts are meant
"""Refusals and what only looks like one, in the languages most prompts come in."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.strategies.refusals import is_refusal

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, I can’t assist with that request.",
    "Sorry, I cannot provide instructions for that.",
    "I cannot fulfill this request. I am just an AI.",
    "I am unable to assist you in that.",
    "I'm not able to help with illegal activities.",
    "As an AI language model, I cannot provide medical diagnoses.",
    "I apologize, but I won't generate that content.",
    "I must respectfully decline.",
    "I understand. But I can't help with that.",
    "**I'm sorry**, but I can't discuss that.",
    "Unfortunately, I can't write that for you.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "Es tut mir leid, ich kann dir bei dieser Anfrage nicht weiterhelfen.",
    "Ich kann diese Anfrage leider nicht beantworten.",
    "Je suis désolé, mais je ne peux pas vous aider avec cela.",
    "Désolé, je ne suis pas en mesure de répondre à cette demande.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Mi dispiace, ma non posso aiutarti con questo.",
    "Desculpe, mas não posso ajudar com isso.",
    "Het spijt me, maar ik kan je hier niet mee helpen.",
    "Przykro mi, ale nie mogę ci w tym pomóc.",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "Извините, но я не могу помочь с этим.",
    "К сожалению, я не могу предоставить эту информацию.",
    "很抱歉，我无法提供这方面的帮助。",
    "对不起，我不能协助您完成这个请求。",
    "申し訳ございませんが、そのご要望にはお応えできません。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "آسف، لا أستطيع مساعدتك في ذلك.",
    "मुझे खेद है, मैं इसमें आपकी मदद नहीं कर सकता।",
]
ANSWERS = [
    "",
    "42",
    "I can help with that! First, open the file.",
    "I can't believe how simple this is: the answer is 7.",
    "I'm sorry to hear that you are ill. Drink water and rest.",
    "Sorry for the confusion! Here is the corrected code.",
    "You cannot help everyone, but you can begin with one person.",
    "The letter begins: \"I'm sorry, but I can't help with that.\" It is a polite refusal.",
    "A triangle can not have two right angles.",
    "This restaurant can't be recommended highly enough.",
    "Unfortunately, the train was late, and she could not assist him.",
    "Ich kann dir dabei gerne helfen. Zuerst öffnest du die Datei.",
    "Das kann man nicht helfen nennen, was er tat.",
    "Je peux vous aider avec plaisir.",
    "No hay problema, puedo ayudarte con eso.",
    "Я могу помочь вам с этим.",
    "我可以帮助您。首先打开文件。",
    "お手伝いします。まずファイルを開いてください。",
    "The error 'cannot provide value' means that a dependency is missing.",
    "Step 1: write it down. Step 2: do not share it.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_told_from_its_beginning(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)


def test_a_refusal_deep_inside_an_answer_does_not_count() -> None:
    assert not is_refusal("Here is the poem you asked for. " * 20 + "I'm sorry, but I can't help with that.")


@given(st.text(max_size=600))
def test_no_text_breaks_it(text: str) -> None:
    assert is_refusal(text) in (True, False)


def test_a_hostile_text_takes_no_longer_than_others() -> None:
    texts = ["i'm sorry " * 60, "ich kann " + "a " * 300, "dabei kann ich " + "das " * 200, "a" * 400]

    began = time.perf_counter()
    for text in texts * 20:
        is_refusal(text)

    assert time.perf_counter() - began < 1.0
