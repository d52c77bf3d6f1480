# ruff: noqa: RUF001 - the letters of other scripts are meant
"""Tells an answer that refuses from one that answers, by how it begins, in the languages most prompts come in. Pure.

High precision rather than recall: a phrase counts only in its usual place, at the very beginning, and together with
a verb of helping or telling, so that stories, quotations and "I can't believe it" do not count.
"""

from __future__ import annotations

import re
from functools import cache

# An apology or a courtesy may come first; what refuses must begin within this many characters.
WINDOW_CHARS = 320

_EN_VERBS = (
    r"(?:help|assist|provide|comply|fulfil|fulfill|support|answer|do that|do this|discuss|generate|create|share|write"
    r"|produce|engage|offer|give|continue|participate|complete|respond|process|facilitate|promote|advise|recommend)"
)
_PATTERNS = (
    # English: "I'm sorry, but I can't help with that." "I am unable to assist." "As an AI, I cannot provide ..."
    rf"(?:{{sorry}})?(?:but )?(?:unfortunately,? )?(?:as an ai[^.!?]{{{{0,60}}}}?,? )?i(?:'m| am)? ?"
    rf"(?:really |simply |just )?(?:can't|cannot|can not|won't|will not|must decline to|am not able to|'m not able to"
    rf"|not able to|unable to|not allowed to|not permitted to|not comfortable|have to decline to|need to decline to)"
    rf" ?(?:to )?(?:directly |in good conscience )?{_EN_VERBS}",
    r"(?:{sorry})?(?:but )?i (?:must|have to|need to) (?:respectfully |politely )?(?:decline|refuse)\b",
    r"(?:{sorry})?(?:but )?(?:this|that|your) request (?:violates|goes against|is against)\b",
    # German
    r"(?:{sorry})?(?:aber )?(?:dabei |damit |leider )?(?:kann|darf|werde|möchte) ich (?:dir |ihnen |euch )?"
    r"(?:dabei |damit |hierbei |leider |das |dies |diese |dieser )*[^.!?]{{0,60}}?nicht"
    r" (?:helfen|behilflich|weiterhelfen|unterstützen|beantworten|geben|bereitstellen|nachkommen|erfüllen|erstellen)",
    r"(?:{sorry})?(?:aber )?ich (?:kann|darf|werde|möchte) (?:dir |ihnen |euch )?[^.!?]{{0,60}}?nicht"
    r" (?:helfen|behilflich|weiterhelfen|unterstützen|beantworten|geben|bereitstellen|nachkommen|erfüllen|erstellen)",
    # French
    r"(?:{sorry})?(?:mais )?je (?:ne )?(?:peux|suis) (?:malheureusement )?pas "
    r"(?:en mesure de |capable de |autorisée? à )?"
    r"(?:vous |t')?(?:aider|répondre|fournir|assister|donner|satisfaire|accéder|créer|générer)",
    # Spanish
    r"(?:{sorry})?(?:pero )?(?:lamentablemente,? )?no (?:puedo|me es posible|estoy en condiciones de)"
    r" (?:ayudar|asistir|proporcionar|responder|cumplir|ofrecer|brindar|dar|crear|generar|facilitar)",
    # Italian
    r"(?:{sorry})?(?:ma )?(?:purtroppo,? )?non (?:posso|sono in grado di)"
    r" (?:aiutar|assister|fornir|risponder|soddisfar|offrir|dar|crear|generar)",
    # Portuguese
    r"(?:{sorry})?(?:mas )?(?:infelizmente,? )?(?:eu )?não (?:posso|consigo)"
    r" (?:ajud|auxili|fornec|respond|atend|oferec|dar|criar|ger)",
    # Dutch
    r"(?:{sorry})?(?:maar )?ik kan (?:je |u |jou )?(?:hier |daar |dit |dat )?(?:helaas )?(?:niet|geen)[^.!?]{{0,40}}?"
    r"(?:helpen|beantwoorden|assisteren|geven|verstrekken|voldoen)",
    # Polish
    r"(?:{sorry})?(?:ale )?nie mogę (?:ci |ciebie |pani |panu )?(?:w tym )?(?:pomóc|udzielić|odpowiedzieć|spełnić)",
    # Turkish
    r"(?:{sorry})?(?:ancak |ama )?[^.!?]{{0,60}}?(?:yardımcı olamam|yardım edemem|yanıt veremem|cevap veremem)",
    # Russian
    r"(?:{sorry})?(?:но )?(?:к сожалению,? )?я не (?:могу|смогу|имею права)"
    r" (?:вам |тебе |с этим )*(?:помочь|ответить|предоставить|выполнить|дать|создать)",
    # Chinese, Japanese, Korean
    r"(?:{sorry})?(?:但)?我(?:们)?(?:无法|不能|不可以|没办法)(?:为您|为你|向您|帮您|帮你)?"
    r"(?:提供|回答|帮助|协助|满足|完成|处理|讨论|生成)",
    r"(?:{sorry})?[^。!?]{{0,40}}?(?:お手伝い|お答え|提供|対応|回答|お応え)(?:することは|することが|は|が)?"
    r"(?:できません|できかねます|いたしかねます)",
    r"(?:{sorry})?[^.!?]{{0,40}}?(?:도와드릴|도움을 드릴|답변해 드릴|답변할|제공할|제공해 드릴) 수 없",
    # Arabic, Hindi
    r"(?:{sorry})?(?:لكن |ولكن )?(?:لا أستطيع|لا يمكنني|لا أقدر على) (?:مساعدت|تقديم|الإجابة|المساعدة|تلبية)",
    r"(?:{sorry})?[^।.!?]{{0,60}}?(?:मदद|सहायता|उत्तर)[^।.!?]{{0,20}}?नहीं (?:कर सकता|कर सकती|दे सकता|दे सकती)",
)
_SORRY = (
    r"(?:(?:i'm|i am|we're|we are|i|we)? ?(?:very |so |really )?(?:sorry|apologi[sz]e|afraid)"
    r"[^.!?\w]{0,4}(?:but)?[^\w']{0,3}"
    r"|my apologies[^\w]{1,3}|es tut mir (?:sehr )?leid[^\w]{1,3}|tut mir leid[^\w]{1,3}|entschuldigung[^\w]{1,3}"
    r"|(?:je suis )?(?:vraiment )?désolée?[^\w]{1,3}|lo siento(?: mucho)?[^\w]{1,3}|lo lamento[^\w]{1,3}"
    r"|mi dispiace[^\w]{1,3}|(?:eu )?(?:sinto muito|lamento|desculpe)[^\w]{1,3}|het spijt me[^\w]{1,3}|sorry[^\w]{1,3}"
    r"|przykro mi[^\w]{1,3}|przepraszam[^\w]{1,3}|üzgünüm[^\w]{1,3}|maalesef[^\w]{1,3}|извините[^\w]{1,3}"
    r"|простите[^\w]{1,3}|к сожалению[^\w]{1,3}|很?抱歉[^\w]{0,3}|对不起[^\w]{0,3}"
    r"|申し訳(?:ございません|ありません)(?:が)?[^\w]{0,3}|죄송(?:합니다|하지만)[^\w]{0,3}"
    r"|آسف[^\w]{1,3}|عذرا[^\w]{0,3}|(?:मुझे )?(?:खेद|क्षमा)[^।]{0,20}[^\w]{1,3})"
)
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "*": None, "_": None, "#": None, '"': None})


def is_refusal(text: str) -> bool:
    """Whether an answer refuses: its first sentence, or the one after a short opening, declines to help."""
    start = " ".join(text[:WINDOW_CHARS].translate(_APOSTROPHES).split())
    return any(_refuses().match(sentence) for sentence in _openings(start))


@cache
def _refuses() -> re.Pattern[str]:
    """Compiled when it is first needed: it takes longer than all else at a gateway's start, and most need it never."""
    return re.compile("|".join(f"(?:{one.format(sorry=_SORRY)})" for one in _PATTERNS), re.IGNORECASE)


def _openings(start: str) -> list[str]:
    """The beginning, and what follows the first sentence where that is short ("I understand. But I can't ...")."""
    found = [start]
    end = re.search(r"[.!?。！？।]\s*", start[:120])
    if end is not None and end.end() < len(start):
        found.append(start[end.end() :])
    return found
