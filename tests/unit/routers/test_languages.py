# ruff: noqa: RUF001 - letters of many scripts are what is tested
"""Languages: by script, by function words, and doubt where there is none to tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.languages import guess_language

SENTENCES = {
    "en": ["What is the capital of France?", "Write me a short poem about the sea.", "fix bug", "hello", "A. 3\nB. 4"],
    "de": ["Wie wird das Wetter morgen in Berlin?", "Schreibe mir bitte ein Gedicht über das Meer.", "Wer ist das?"],
    "fr": ["Quelle est la capitale de la France ?", "Peux-tu m'écrire un poème sur la mer ?", "Où sont les clés ?"],
    "es": ["¿Cuál es la capital de Francia?", "Escribe un poema corto sobre el mar.", "¿Qué hora es en Madrid?"],
    "it": ["Qual è la capitale della Francia?", "Scrivimi una poesia sul mare che non sia troppo lunga."],
    "pt": ["Qual é a capital da França e quantas pessoas moram lá?", "Você pode me ajudar com uma questão?"],
    "nl": ["Wat is de hoofdstad van Frankrijk?", "Kun je een gedicht over de zee voor mij schrijven?"],
    "sv": ["Vad är huvudstaden i Frankrike?", "Kan du skriva en dikt om havet för mig?"],
    "pl": ["Jaka jest stolica Francji?", "Czy możesz napisać wiersz o morzu?"],
    "tr": ["Fransa'nın başkenti neresi ve nasıl gidilir?", "Bana deniz için bir şiir yazar mısın?"],
    "ru": ["Какая столица Франции?"],
    "uk": ["Яка столиця Франції і її населення?"],
    "sr": ["Који је главни град Француске? Њено име?"],
    "el": ["Ποια είναι η πρωτεύουσα της Γαλλίας;"],
    "he": ["מהי בירת צרפת?"],
    "ar": ["ما هي عاصمة فرنسا؟"],
    "hi": ["फ्रांस की राजधानी क्या है?"],
    "th": ["เมืองหลวงของฝรั่งเศสคืออะไร"],
    "ja": ["フランスの首都はどこですか?", "日本の首都は東京である"],
    "zh": ["法国的首都是哪里?", "用 Python 写一个排序函数"],
    "ko": ["프랑스의 수도는 어디인가요?"],
}


@pytest.mark.parametrize(("language", "text"), [(name, text) for name, texts in SENTENCES.items() for text in texts])
def test_ordinary_questions_are_recognised(language: str, text: str) -> None:
    assert guess_language(text) == language


@pytest.mark.parametrize("text", ["", "12 + 30 = ?", "🙂🙂", "Žluťoučký kůň"])
def test_what_tells_nothing_is_undetermined(text: str) -> None:
    assert guess_language(text) == "und"


def test_mathematics_and_options_do_not_pass_for_french_or_spanish() -> None:
    assert guess_language("Let $a,$ $b,$ and $c$ be real. Find $c - d$ if $d = n$ and $y = s$.") == "en"


def test_an_english_text_that_quotes_another_script_stays_english() -> None:
    assert guess_language("What does the Japanese word 木 mean, and how is it written by hand?") == "en"


@given(st.text(max_size=400))
def test_any_text_gets_a_code_of_two_or_three_letters(text: str) -> None:
    code = guess_language(text)
    assert code.islower() and 2 <= len(code) <= 3
