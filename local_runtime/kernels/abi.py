"""The C structs of `native/abi.h`, field by field, and the signatures of its functions."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int, c_int32, c_size_t, c_void_p
from typing import Any, Final

Q4: Final = 0
Q8: Final = 1
Q8M: Final = 2
Q22: Final = 3
Q2: Final = 4
BF16: Final = 5

SILU: Final = 0
GELU_TANH: Final = 1

LANES: Final = 16
GROUP: Final = 32
PAGE: Final = 16


class Matrix(ctypes.Structure):
    """Weights in tiles; `low` holds the lower bits of Q22."""

    _fields_ = [
        *((name, c_void_p) for name in ("tiles", "low")),
        *((name, c_int32) for name in ("rows", "cols", "format", "unused")),
    ]


class Expert(ctypes.Structure):
    """One of the experts of a layer."""

    _fields_ = [("gate_up", Matrix), ("down", Matrix)]


class Layer(ctypes.Structure):
    """One block of a transformer; None where a family has no such tensor."""

    _fields_ = [
        *((name, Matrix) for name in ("qkv", "out", "gate_up", "down")),
        *((name, c_void_p) for name in ("attn_norm", "ffn_norm", "q_norm", "k_norm")),
        *((name, c_void_p) for name in ("qkv_bias", "out_bias", "gate_up_bias", "down_bias")),
        *((name, c_void_p) for name in ("attn_post_norm", "ffn_post_norm", "router", "shared_router")),
        ("expert", POINTER(Expert)),
        *((name, c_int32) for name in ("window", "experts", "rope", "unused")),
    ]


class Model(ctypes.Structure):
    """A model's sizes and weights."""

    _fields_ = [
        ("layers", POINTER(Layer)),
        ("embed", Matrix),
        ("head", Matrix),
        ("norm", c_void_p),
        ("frequencies", c_void_p * 2),
        *((name, c_int32) for name in ("layer_count", "hidden", "heads", "kv_heads", "head_dim", "rotary_dim")),
        *((name, c_int32) for name in ("intermediate", "vocab", "activation", "fine")),
        *((name, c_int32) for name in ("active", "expert_width", "weighting", "early")),
        *((name, c_float) for name in ("eps", "embed_scale", "attn_scale", "attn_cap", "logit_cap", "routed_scale")),
        *((name, c_float) for name in ("top_p", "rounded_up")),
    ]


class EncoderLayer(ctypes.Structure):
    """One block of an encoder."""

    _fields_ = [
        *((name, Matrix) for name in ("qkv", "out", "wide", "narrow")),
        *((name, c_void_p) for name in ("qkv_bias", "out_bias", "wide_bias", "narrow_bias")),
        *((name, c_void_p) for name in ("attn_norm", "attn_shift", "ffn_norm", "ffn_shift")),
    ]


class Encoder(ctypes.Structure):
    """An encoder's sizes and weights."""

    _fields_ = [
        ("layers", POINTER(EncoderLayer)),
        ("words", Matrix),
        *((name, c_void_p) for name in ("places", "norm", "shift")),
        *((name, c_int32) for name in ("layer_count", "hidden", "heads", "intermediate")),
        *((name, c_int32) for name in ("vocab", "window", "fine", "unused")),
        *((name, c_float) for name in ("eps", "unused_too")),
    ]


class Low(ctypes.Structure):
    """What an adapter adds to one product."""

    _fields_ = [
        *((name, c_void_p) for name in ("down", "up", "spans")),
        *((name, c_int32) for name in ("ranks", "width")),
    ]


class Lows(ctypes.Structure):
    """What an adapter adds in one layer."""

    _fields_ = [(name, Low) for name in ("qkv", "out", "gate_up", "down")]


class Adapter(ctypes.Structure):
    """What an adapter adds in all layers."""

    _fields_ = [("layers", POINTER(Lows)), ("most_ranks", c_int32), ("unused", c_int32)]


class Segment(ctypes.Structure):
    """Consecutive tokens of one sequence, with the adapter it wears."""

    _fields_ = [("pages", c_void_p), ("start", c_int32), ("rows", c_int32), ("adapter", POINTER(Adapter))]


_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "fp_level": (c_int, (c_int,)),
    "fp_matrix_bytes": (c_size_t, (c_int, c_int, c_int)),
    "fp_pack": (None, (c_void_p, c_int, c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)),
    "fp_pack_blocks": (c_int, (c_void_p, c_int, c_int, c_void_p, c_int, c_void_p)),
    "fp_pack_bfloat16": (None, (c_void_p, c_int, c_void_p, c_int, c_void_p)),
    "fp_split": (None, (c_void_p, c_int, c_void_p, c_void_p)),
    "fp_multiply": (c_int, (c_int, POINTER(Matrix), c_void_p, c_int, c_int, c_void_p)),
    "fp_arena": (c_void_p, (c_size_t,)),
    "fp_arena_data": (c_void_p, (c_void_p,)),
    "fp_arena_free": (None, (c_void_p,)),
    "fp_open": (c_void_p, (c_int, POINTER(Model), c_int, c_int)),
    "fp_close": (None, (c_void_p,)),
    "fp_threads": (c_int, (c_void_p, c_int)),
    "fp_begin": (c_int, (c_void_p, POINTER(Segment), c_int, c_void_p)),
    "fp_layers": (c_int, (c_void_p, c_void_p, c_int)),
    "fp_route": (c_int, (c_void_p, c_int, c_void_p, c_void_p)),
    "fp_foresee": (c_int, (c_void_p, c_int, c_void_p)),
    "fp_share": (c_int, (c_void_p, c_int)),
    "fp_experts": (c_int, (c_void_p, c_int, c_void_p, c_int)),
    "fp_mix": (c_int, (c_void_p,)),
    "fp_encoder_open": (c_void_p, (c_int, POINTER(Encoder), c_int, c_int)),
    "fp_encoder_close": (None, (c_void_p,)),
    "fp_encode": (c_int, (c_void_p, c_void_p, c_void_p, c_int, c_void_p)),
    "fp_head": (c_int, (c_void_p, c_void_p, c_int, c_void_p)),
}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the signatures of its functions; AttributeError where one is missing."""
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, list(arguments)
    return library
