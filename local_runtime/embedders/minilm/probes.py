"""Texts of many kinds on which the exporter measures the exact model and proves the rounded one."""

from __future__ import annotations

MEASURED = (
    "What is the capital of Australia, and why is it not Sydney?",
    "how do i undo my last git commit without losing the changes",
    "def merge(a, b):\n    out = []\n    while a and b:\n        out.append(min(a, b).pop(0))\n    return out + a + b",
    "SELECT name, COUNT(*) FROM orders WHERE created_at >= '2024-01-01' GROUP BY name HAVING COUNT(*) > 3;",
    "A train leaves at 14:05 and covers 312 km in 2 hours 36 minutes. What is its mean speed in km/h?",
    "Patient reports chest pain radiating to the left arm, onset 40 minutes ago, history of hypertension.",
    "¿Cuál es la diferencia entre un préstamo personal y una hipoteca?",
    "Wie lange dauert es, bis ein neuer Personalausweis ausgestellt wird?",
    "東京から京都まで新幹線でどのくらいかかりますか。",
    "Почему небо днём голубое?",
    "ok",
    "!!! ??? ... 🙂🚀",
    (
        "Summarise the following minutes in three bullet points. The board met on Tuesday to discuss the budget; costs "
        "of hosting rose by eleven per cent, two suppliers were replaced, and the move was put off until spring."
    ),
    "flights from Boston to Denver on Monday morning, cheapest first",
    "Translate to French: the quick brown fox jumps over the lazy dog near the river bank.",
    "Error: ECONNREFUSED 127.0.0.1:5432 at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1595:16)",
)

PROVEN = (
    "Is it safe to take ibuprofen and paracetamol at the same time?",
    "write a haiku about autumn rain",
    "My card was charged twice for the same order, how do I get a refund?",
    "for (int i = 0; i < n; ++i) { sum += values[i] * weights[i]; }",
    "Quelle est la meilleure saison pour visiter la Norvège ?",
    "The mitochondrion is the organelle that produces most of the cell's supply of adenosine triphosphate.",
    "find all files larger than 100MB modified in the last week and sort them by size",
    "no",
)
