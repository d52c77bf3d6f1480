"""Guesses the language of a prompt from its script and its commonest words; small, and honest about doubt.

Knows ten languages in Latin script by their function words and tells others by their script.
"""

from __future__ import annotations

import re

UNKNOWN = "und"
WINDOW = 300

# Below these a few chance words would name a language: votes, and votes per word.
_FEWEST_VOTES = 0.5
_LOWEST_SHARE = 0.1

# First code point, last code point, language; Han and kana are weighed apart.
_SCRIPTS = (
    (0x0370, 0x03FF, "el"),
    (0x0400, 0x052F, "ru"),
    (0x0590, 0x05FF, "he"),
    (0x0600, 0x06FF, "ar"),
    (0x0900, 0x097F, "hi"),
    (0x0E00, 0x0E7F, "th"),
    (0x3040, 0x30FF, "ja"),
    (0x4E00, 0x9FFF, "zh"),
    (0xAC00, 0xD7AF, "ko"),
)
_UKRAINIAN = frozenset("іїєґІЇЄҐ")
_SERBIAN = frozenset("ђјљњћџЂЈЉЊЋЏ")

_FUNCTION_WORDS = {
    "en": "the of and to in is that it for was with as are be this have from or by not what how which you can"
    " do does my your we they an at on if will would should could when where why who please write me about all also"
    " over under was were there their his her he she has had but so then than more most some only into no any each"
    " other out up one two find give make following between many much after before does is it its let am men man"
    " die war son ten per plus",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er"
    " hat dass sie nach wird bei einer um am sind noch wie einem über so zum kann ich du wir mir mich was warum bitte"
    " haben oder wenn nur vor zur durch mein dein kein keine einen welche wer bis diese dieser dieses",
    "fr": "le la les de des du et en un une est que qui dans pour pas sur au avec ce il sont par plus je vous nous"
    " ne se aux cette mais ou où comment quel quelle pourquoi moi mon ma mes votre être à qu elle sa son",
    "es": "el la los las de en un una que es por con para se del al lo como más pero sus le ya este sí porque"
    " esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos cómo qué cuál puedo mi tu su no",
    "it": "il lo la gli le di che in un una è per con non del della dei delle si da al alla come più ma se sono"
    " anche nel nella ho ha questo questa cosa perché mi ti ci io tu puoi posso dal dalla ed ad dello degli",
    "pt": "os as de em um uma que é por com para se do da dos das no na nos nas ao como mais mas foi não seu"
    " sua ou quando muito há já está eu também só pelo pela até isso ela entre você são meu minha me esse este à",
    "nl": "de het een van en in is dat op te voor met zijn er aan niet ook als maar om bij uit nog naar dan of wordt"
    " deze door over hoe wat waarom ik je jij we wij mijn kan kun worden geen heeft die tot was",
    "sv": "och att det en som på är av för med den till inte har de om ett han men var jag sig från vi så kan när"
    " år säger hur vad varför du min mitt ska eller vid efter upp alla också man detta denna",
    "pl": "na do się nie to jest że jak za po co ale od dla tak przez czy jego tylko są ma lub jako oraz przy"
    " który która które tego może był jestem mi ci mój być we ze pod jeśli",
    "tr": "ve bir bu için ile de da ne var çok daha olarak gibi ben sen mi mı kadar sonra olan en ama ya değil nasıl"  # noqa: RUF001 - Turkish has two i
    " neden hangi veya her şey bana benim olduğu bunu edilir ise",
}
# Letters and signs that only one of these languages has.
_MARKS = dict.fromkeys("łąęśżźńŁŚŻ", "pl") | dict.fromkeys("ñ¿¡", "es") | dict.fromkeys("ãõ", "pt")
_MARKS |= dict.fromkeys("ğıİ", "tr") | {"ß": "de", "œ": "fr"}
_WORD = re.compile(r"[^\W\d_]+")
_PLAIN_WORD = re.compile(r"[a-z]+")


def _by_word(lists: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The languages that have a word; single plain letters are left out, being options and variables too."""
    words: dict[str, tuple[str, ...]] = {}
    for language, text in lists.items():
        for word in dict.fromkeys(text.split()):
            if len(word) > 1 or not word.isascii():
                words[word] = (*words.get(word, ()), language)
    return words


_VOTES_OF = {
    word: tuple((language, 1 / len(languages)) for language in languages)
    for word, languages in _by_word(_FUNCTION_WORDS).items()
}
_KNOWN_WORDS = frozenset(_VOTES_OF)


def guess_language(text: str) -> str:
    """ISO 639-1 code of the likeliest language of the first 300 characters.

    `und` where nothing tells; English where a text is plain ASCII and no function word says otherwise.
    """
    start = text[:WINDOW]
    if not start.isascii():
        script = _by_script(start)
        if script is not None:
            return script
    return _by_function_words(start)


def _by_script(text: str) -> str | None:
    """The language of the script that most letters are in; None for Latin."""
    counts: dict[str, int] = {}
    latin = 0
    for char in text:
        code = ord(char)
        if code < 0x0370:
            latin += char.isalpha()
            continue
        language = next((name for first, last, name in _SCRIPTS if first <= code <= last), None)
        if language is not None:
            counts[language] = counts.get(language, 0) + 1
    wide = sum(counts.get(name, 0) for name in ("zh", "ja", "ko"))
    # One sign of these scripts says about as much as three Latin letters.
    if not counts or sum(counts.values()) + 2 * wide <= latin:
        return None
    best = max(counts, key=counts.__getitem__)
    if best == "zh" and counts.get("ja", 0) * 10 >= counts["zh"]:
        return "ja"
    return _cyrillic(text) if best == "ru" else best


def _cyrillic(text: str) -> str:
    letters = set(text)
    if letters & _UKRAINIAN:
        return "uk"
    return "sr" if letters & _SERBIAN else "ru"


def _by_function_words(text: str) -> str:
    """Each distinct function word gives one vote, shared among the languages that have it."""
    votes: dict[str, float] = {}
    pattern = _PLAIN_WORD if text.isascii() else _WORD
    words = set(pattern.findall(text.lower()))
    for word in words & _KNOWN_WORDS:
        for language, vote in _VOTES_OF[word]:
            votes[language] = votes.get(language, 0.0) + vote
    if not text.isascii():
        for mark in _MARKS.keys() & set(text):
            votes[_MARKS[mark]] = votes.get(_MARKS[mark], 0.0) + 1
    # English first on a tie: it is the likelier one.
    best = max(votes, key=lambda language: (votes[language], language == "en"), default=UNKNOWN)
    if votes.get(best, 0.0) >= max(_FEWEST_VOTES, _LOWEST_SHARE * len(words)):
        return best
    return "en" if words and text.isascii() else UNKNOWN
