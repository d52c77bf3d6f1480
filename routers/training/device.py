"""Whether training can use a GPU here."""

from __future__ import annotations


def cuda_is_there() -> bool:
    """Whether torch can compute on a GPU here."""
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
