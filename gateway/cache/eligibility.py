"""How far a request's answer may be shared: not at all, with its exact repeats, or with what means the same.

Every rule only restricts and gives its reason in words. Knows the request, not the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from msgspec import Raw

from gateway.cache.beside import decoded, is_whole_in_chat
from gateway.cache.canonical import Canonical
from gateway.cache.control import NO_CONTROL, Control
from gateway.wire.chat_request import ChatEnvelope, ChatRequest, content_kinds
from policies.schema import CacheMode

# Above this a caller asks for variety; the API's default and what is below it are usual.
VARIED_TEMPERATURE = 1.0
# An answer about the present is given to nobody later than this, unless its category says for how long.
VOLATILE_TTL_S = 60
READ_CHARS = 2000
# Hardly any text has tokens as long as this on average, and counting them takes time.
_CHARACTERS_PER_TOKEN = 40


@dataclass(frozen=True, slots=True)
class Window:
    """What an embedder sees of a text: `tokens`, its two marks included. Without `count` texts count as long as they
    can possibly be: a token for every character that is no blank, three for one beyond ASCII."""

    tokens: int = 256
    count: Callable[[str], int] | None = None

    def holds(self, text: str) -> bool:
        """Whether the whole text is seen; counts only where the length alone can't tell."""
        if len(text) > self.tokens * _CHARACTERS_PER_TOKEN:
            return False
        blanks = text.count(" ") + text.count("\n")
        widest = len(text) if text.isascii() else len(text.encode(errors="replace"))
        if widest - blanks + 2 <= self.tokens:
            return True
        return self.count is not None and self.count(text) <= self.tokens


WINDOW = Window()


@dataclass(frozen=True, slots=True)
class Allowed:
    """`reason` says what restricts `mode`, empty where nothing does; `ttl_s` bounds for how long answers are kept."""

    mode: CacheMode
    reason: str = ""
    ttl_s: int | None = None


def allowed(
    request: ChatRequest,
    form: Canonical,
    *,
    mode: CacheMode = CacheMode.SEMANTIC,
    category_decides: bool = False,
    control: Control = NO_CONTROL,
    window: Window = WINDOW,
) -> Allowed:
    """`mode` is the most that the policy allows. Where `category_decides` the policy means this very category, and
    whether personal or volatile questions share answers is its business; otherwise their words decide."""
    formed = allowed_by_form(request, form, control=control, window=window)
    return allowed_by_category(formed, request, form, mode=mode, category_decides=category_decides)


def allowed_by_form(
    request: ChatRequest, form: Canonical, *, control: Control = NO_CONTROL, window: Window = WINDOW
) -> Allowed:
    """What holds whatever the category: it is known before anything is embedded."""
    if control.mode is CacheMode.OFF:
        return Allowed(CacheMode.OFF, "the request turns the cache off")
    reason = next(_reasons(request, form, control, window), "")
    return Allowed(CacheMode.EXACT if reason else CacheMode.SEMANTIC, reason)


def allowed_by_category(
    formed: Allowed, request: ChatRequest, form: Canonical, *, mode: CacheMode, category_decides: bool
) -> Allowed:
    """What `allowed_by_form` found, bounded by the category's mode and by what the words say; see `allowed`."""
    if formed.mode is CacheMode.OFF:
        return formed
    if mode is CacheMode.OFF:
        return Allowed(CacheMode.OFF, "its policy does not cache it")
    volatile = "" if category_decides else _volatile(request, form.text)
    reason = formed.reason
    if mode is CacheMode.EXACT:
        reason = reason or "its policy caches it for exact repeats only"
    reason = reason or volatile
    if not reason and not category_decides:
        reason = _personal(form.text)
    ttl_s = VOLATILE_TTL_S if volatile else None
    return Allowed(CacheMode.EXACT if reason else CacheMode.SEMANTIC, reason, ttl_s)


def keeps_well(request: ChatRequest, form: Canonical) -> bool:
    """Whether an answer may be given once it has expired: not where it changes with time or is somebody's own,
    whatever the category says."""
    return not (_volatile(request, form.text) or _personal(form.text))


def _reasons(request: ChatRequest, form: Canonical, control: Control, window: Window) -> Iterator[str]:
    """Why only exact repeats may share, cheapest first."""
    envelope = request.envelope
    if control.mode is CacheMode.EXACT:
        yield "the request asks for exact repeats only"
    yield from _by_fields(envelope)
    if request.choices > 1:
        yield "several answers are asked for"
    if not is_whole_in_chat(request):
        yield "it says more than the chat form of it"
    if envelope.messages[-1].role != "user":
        yield f"its last message is of role '{envelope.messages[-1].role}'"
    media = content_kinds(envelope) - {"text"}
    if media or _has_strange_parts(envelope):
        yield f"it holds more than text ({', '.join(sorted(media)) or 'a part of unknown type'})"
    if not form.text:
        yield "its last message has no text"
    if not window.holds(form.text):
        yield "its text is longer than what the embedder sees"


def _by_fields(envelope: ChatEnvelope) -> Iterator[str]:
    if envelope.seed is not None:
        yield "a seed asks for one certain answer"
    if envelope.logprobs:
        yield "log probabilities belong to one certain answer"
    if envelope.temperature is not None and envelope.temperature > VARIED_TEMPERATURE:
        yield f"a temperature above {VARIED_TEMPERATURE:g} asks for variety"


def _has_strange_parts(envelope: ChatEnvelope) -> bool:
    """Parts of the last message that are neither text nor of a kind that is known."""
    content = envelope.messages[-1].content
    return isinstance(content, list) and any(part.type != "text" for part in content)


# How something is done has the same answer for everybody, though it says "my".
_PROCEDURE = re.compile(
    r"\W*(?:how (?:do|can|could|should|would|to)|what (?:is|are) the (?:way|steps?)|which steps)\b", re.IGNORECASE
)
_PERSONAL = re.compile(
    r"\b(?:my|our)\s+(?:[\w-]+\s+){0,2}?"
    r"(?:accounts?|address|age|appointments?|balances?|bills?|birthday|bookings?|calendar|cards?|cart|claims?|contracts?"
    r"|credits?|data|debts?|diagnosis|documents?|e-?mails?|employer|files?|flights?|inbox|income|invoices?|location"
    r"|meetings?|messages?|mortgage|name|orders?|packages?|passwords?|payments?|payroll|payslips?|pension|phone|plan"
    r"|points|policy|prescriptions?|profile|purchases?|quota|refunds?|reservations?|results?|salary|savings|schedule"
    r"|shipments?|statements?|subscriptions?|tasks?|tax(?:es)?|tickets?|transactions?|transfers?|usage)\b"
    r"|\b(?:who|where) am i\b"
    r"|\b(?:do|did|have|am|was) i (?:owe|own|spend|spent|order|ordered|book|booked|pay|paid|eligible|entitled"
    r"|qualified|charged)\b",
    re.IGNORECASE,
)
_VOLATILE = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|right now|currently|at the moment|at present|as of now|latest|newest"
    r"|up[- ]to[- ]date|breaking|weather|news|headlines|exchange rates?|who (?:won|is winning|is leading)"
    r"|this (?:morning|afternoon|evening|week|weekend|month|quarter|year|season)"
    r"|(?:what|which) (?:time|day|date) is it|(?:stock|share|bitcoin|gold|oil|gas|fuel) prices?"
    r"|(?:current|live|recent) (?:[\w-]+ ){0,2}?(?:prices?|rates?|scores?|status|temperature|time|date|traffic|version"
    r"|president|ceo|population|events?))\b",
    re.IGNORECASE,
)
# Tools that the client itself runs; all others are their vendor's, most of them look things up.
_CLIENTS_OWN = (None, "function", "custom")
_SEARCHES = ("web_search_options", "search_parameters", "plugins", "enable_search")
# Of a responses request: a template in the vendor's account.
_TEMPLATE = "prompt"


def _personal(text: str) -> str:
    found = None if _PROCEDURE.match(text) else _PERSONAL.search(text)
    return f"it asks for something personal ('{' '.join(found.group().split())}')" if found else ""


def _volatile(request: ChatRequest, text: str) -> str:
    """Of a long text only the beginning is read: what follows is seldom a question about the day."""
    if any(name in request.fields for name in _SEARCHES) or any(
        isinstance(tool, dict) and tool.get("type") not in _CLIENTS_OWN for tool in _tools(request)
    ):
        return "what answers it may look things up"
    original = request.original
    if original is not None and original.dialect == "responses" and _TEMPLATE in original.fields:
        return "its prompt stands with the vendor, where it may change"
    found = _VOLATILE.search(text, 0, READ_CHARS)
    return f"its answer changes with time ('{found.group()}')" if found else ""


def _tools(request: ChatRequest) -> Sequence[object]:
    """As the client sent them: the chat form leaves out what vendors run."""
    if request.original is None or not request.native_only:
        return request.envelope.tools or ()
    given = decoded(request.original.fields.get("tools", Raw(b"[]")))
    return given if isinstance(given, list) else ()
