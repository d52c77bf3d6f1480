"""What policies keep of keys and values, and what a model says with what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.base import GenerationError, Sampling
from local_runtime.kv.policies.base import OBSERVED, SLACK, KvPolicy
from local_runtime.kv.policies.cake import Cake
from local_runtime.kv.policies.mixed import MixedBits
from local_runtime.kv.policies.prefix import PrefixKv
from local_runtime.kv.policies.sizes import prefixes, shares
from local_runtime.kv.policies.window import SinkWindow
from local_runtime.kv.private import PlainLayer, RoundedLayer
from local_runtime.kv.quantised import joined, pack, unpack
from local_runtime.models.compressed import Compressed
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.transformer import Transformer
from local_runtime.scheduler import Scheduler
from local_runtime.sequence import new_sequence
from local_runtime.text.tokenizer import Tokenizer
from tests.unit.local_runtime.tiny import byte_tokenizer, load_tiny, save_tiny, segment

KEEP_ALL = MixedBits([(16, 16)])


@pytest.fixture(scope="module", params=["llama", "gemma2", "mistral, window"])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny(request.param, folder)
    return load_tiny(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    save_tiny("llama", folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def compressed(model: Transformer, policy: KvPolicy) -> Compressed:
    return Compressed(model.spec, model.weights, model.page_count, policy)


def tokens(count: int, seed: int = 0) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 256, count)]


def in_passes(
    model: Transformer, ids: Sequence[int], step: int, slot: int = 0
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    parts = [ids[at : at + step] for at in range(0, len(ids), step)]
    return np.concatenate([model.forward([segment(slot, i * step, part, len(part))]) for i, part in enumerate(parts)])


def counts(model: Compressed) -> list[int]:
    return [layer.count for layers in model._held.values() for layer in layers]


@pytest.mark.parametrize("policy", [KEEP_ALL, SinkWindow(100), Cake(100, 2), PrefixKv(100, 2)])
@pytest.mark.parametrize("step", [1, 16])
def test_a_budget_that_is_never_reached_changes_nothing(full: Transformer, policy: KvPolicy, step: int) -> None:
    ids = tokens(60)

    got = in_passes(compressed(full, policy), ids, step)

    assert np.abs(got - in_passes(full, ids, step)).max() < 1e-4


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("kind", [Cake, PrefixKv])
def test_layers_keep_the_budget_on_average_and_sequences_do_not_meet(
    full: Transformer, kind: type[Cake] | type[PrefixKv], early: bool
) -> None:
    model = compressed(full, kind(64, 2, after_prompt=not early))
    ids, others = tokens(112), tokens(112, seed=1)
    alone = in_passes(model, ids, 8)
    after = counts(model)

    for at in range(0, 112, 8):
        both = model.forward([segment(1, at, others[at : at + 8], 8), segment(0, at, ids[at : at + 8], 8)])

    assert np.abs(both[8:] - alone[-8:]).max() < 1e-4
    assert sum(after) <= (64 + SLACK) * len(after)
    assert min(after) >= OBSERVED


def test_the_window_keeps_the_first_and_the_last_and_frees_the_others(llama: Path) -> None:
    model = compressed(load_tiny(llama), SinkWindow(20, sinks=3))
    whole = compressed(load_tiny(llama), KEEP_ALL)

    in_passes(model, tokens(100), 50)
    in_passes(whole, tokens(100), 50)

    positions = model._held[segment(0, 0, [1]).pages[0]][1].read()[2]
    assert positions.tolist() == [[0, 1, 2, *range(83, 100)]] * 2
    assert model.bytes == whole.bytes * 20 // 100


def test_what_the_window_dropped_is_not_seen(llama: Path) -> None:
    reference = load_tiny(llama)
    model = compressed(reference, SinkWindow(20))
    ids = tokens(100)
    changed = [*ids[:10], *tokens(30, seed=7), *ids[40:]]
    layer = 0

    in_passes(model, ids, 50)
    keys = model._held[segment(0, 0, [1]).pages[0]][layer].read()[0].clone()
    in_passes(model, changed, 50)

    assert torch.equal(model._held[segment(0, 0, [1]).pages[0]][layer].read()[0], keys)


def test_a_prompt_is_kept_whole_until_it_ends_unless_it_is_to_be_thinned_early(llama: Path) -> None:
    ids, late, early = tokens(112), *(Cake(64, 2, after_prompt=after) for after in (True, False))
    models = [compressed(load_tiny(llama), policy) for policy in (late, early)]

    for model in models:
        model.forward([segment(0, 0, ids[:100], 0)])

    assert counts(models[0]) == [100] * 3
    assert sum(counts(models[1])) <= 64 * 3
    models[0].forward([segment(0, 100, ids[100:], 1)])
    assert sum(counts(models[0])) <= 64 * 3


class Fixed:
    """A layer whose last queries look where a test says."""

    def __init__(self, attention: torch.Tensor) -> None:
        self._attention = attention
        self.count = attention.shape[2]

    def attention(self) -> torch.Tensor:
        return self._attention


def looking(at: Sequence[int], count: int = 200) -> Fixed:
    attention = torch.full((1, OBSERVED, count), 1e-6)
    attention[0, :, list(at)] = 1.0 / len(at)
    return Fixed(attention)


@pytest.mark.parametrize("policy", [Cake(64), PrefixKv(64)])
def test_what_is_asked_for_stays_and_the_last_tokens_too(policy: KvPolicy) -> None:
    chosen = policy.keep([looking([50]), looking([90])])

    assert chosen is not None
    assert 50 in chosen[0][0].tolist()
    assert 90 in chosen[1][0].tolist()
    assert all(set(range(200 - OBSERVED, 200)) <= set(one[0].tolist()) for one in chosen)
    assert all(low < high for one in chosen for low, high in pairwise(one[0].tolist()))


def test_each_head_keeps_its_own() -> None:
    both = torch.cat([looking([20]).attention(), looking([120]).attention()])

    chosen = PrefixKv(64).keep([Fixed(both), Fixed(both)])

    assert chosen is not None
    assert 20 in chosen[0][0].tolist()
    assert 120 in chosen[0][1].tolist()


def test_attention_that_is_spread_gets_more_room() -> None:
    narrow, wide = looking([5]), looking(range(150))

    chosen = PrefixKv(64).keep([narrow, wide])

    assert chosen is not None
    assert chosen[0].shape[1] < chosen[1].shape[1]
    assert chosen[0].shape[1] + chosen[1].shape[1] <= 128


def test_cake_prefers_layers_whose_attention_is_wide_and_restless() -> None:
    still = looking(range(100)).attention()
    restless = torch.full((1, OBSERVED, 200), 1e-6)
    for query in range(OBSERVED):
        restless[0, query, query * 5 : query * 5 + 20] = 0.05
    sharp = looking([3]).attention()
    cake = Cake(64)

    assert cake.preference(restless) > cake.preference(still)
    assert cake.preference(restless) > cake.preference(sharp)


def test_a_key_that_is_asked_for_now_and_then_beats_one_that_is_asked_for_evenly() -> None:
    attention = torch.full((1, OBSERVED, 200), 1e-6)
    attention[0, :, :90] = 0.004
    attention[0, ::8, 120] = 0.03

    chosen = Cake(64).keep([Fixed(attention)])

    assert chosen is not None
    assert 120 in chosen[0][0].tolist()


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 300)), min_size=1, max_size=8), st.integers(0, 2000))
def test_shares_stay_within_bounds_and_spend_what_can_be_spent(layers: list[tuple[float, int]], total: int) -> None:
    weights, most = [one for one, _ in layers], [bound for _, bound in layers]
    least = sum(min(10, bound) for bound in most)

    sizes = shares(weights, total, 10, most)

    assert all(min(10, bound) <= size <= bound for size, bound in zip(sizes, most, strict=True))
    assert sum(sizes) <= max(total, least)
    if total >= sum(most):
        assert sizes == most


def test_shares_are_in_proportion() -> None:
    assert shares([1.0, 3.0], 80, 5, [100, 100]) == [20, 60]
    assert shares([1.0, 3.0], 80, 5, [100, 30]) == [50, 30]
    assert shares([1.0, 999.0], 80, 30, [100, 100]) == [30, 50]


@given(st.lists(st.integers(5, 60), min_size=1, max_size=5), st.integers(0, 200))
def test_prefixes_keep_to_the_total_and_are_as_long_as_it_allows(lengths: list[int], total: int) -> None:
    curves = [torch.linspace(1, 0.1, length) ** (i + 1) for i, length in enumerate(lengths)]

    sizes = prefixes(curves, total, 3)

    assert all(3 <= size <= length for size, length in zip(sizes, lengths, strict=True))
    assert sum(sizes) <= max(total, 3 * len(lengths))
    assert sum(sizes) >= min(total, sum(lengths)) - len(lengths) or total < 3 * len(lengths)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("head_dim", [8, 64])
def test_numbers_come_back_within_half_a_step(bits: int, dim: int, head_dim: int) -> None:
    x = torch.randn(3, 32, head_dim, generator=torch.Generator().manual_seed(1))

    packed = pack(x, bits, dim)

    groups = x.amax(dim, keepdim=True) - x.amin(dim, keepdim=True)
    step = groups / (2**bits - 1)
    assert (unpack(packed, torch.float32) - x).abs().sub(step / 2).max() < 2e-3
    assert packed.data.numel() == x.numel() * bits // 8


def test_equal_numbers_survive_rounding() -> None:
    x = torch.full((1, 32, 64), 0.7)

    assert torch.allclose(unpack(pack(x, 2, 1), torch.float32), x, atol=1e-3)


def test_blocks_join_in_order() -> None:
    one, two = torch.zeros(2, 32, 8), torch.ones(1, 32, 8)

    both = unpack(joined(pack(one, 4, 2), pack(two, 4, 2)), torch.float32)

    assert torch.equal(both, torch.cat([one, two]))


def test_a_rounded_layer_gives_back_every_head_in_order_and_its_last_tokens_untouched() -> None:
    plain, rounded = PlainLayer(0, 1.0, 0.0), RoundedLayer((8, 8))
    new = torch.randn(150, 2, 3, 8, generator=torch.Generator().manual_seed(2))
    for at in range(0, 150, 50):
        for layer in (plain, rounded):
            layer.append(at, new[at : at + 50, 0], new[at : at + 50, 0], new[at : at + 50, 1])
        rounded.settle()

    for got, want in zip(rounded.read(), plain.read(), strict=True):
        assert (got - want).abs().max() < 0.02
    assert torch.equal(rounded.read()[0][:, -32:], plain.read()[0][:, -32:])
    assert not torch.equal(rounded.read()[0][:, :32], plain.read()[0][:, :32])
    assert rounded.bytes < plain.bytes
    assert rounded.count == 150


def test_fewer_bits_are_further_from_the_full_cache(llama: Path) -> None:
    reference = load_tiny(llama)
    ids = tokens(112)
    want = in_passes(reference, ids, 16)

    off = [np.abs(in_passes(compressed(reference, MixedBits([(b, b)])), ids, 16) - want).mean() for b in (8, 4, 2)]

    assert 0 < off[0] < off[1] < off[2]
    assert off[0] < 0.05


def test_bits_differ_by_layer() -> None:
    mixed = MixedBits([(8, 4), (16, 16)])

    assert [mixed.bits(0), mixed.bits(1)] == [(8, 4), None]
    with pytest.raises(ValueError, match="bits for 2 layers"):
        mixed.bits(2)


def test_a_position_that_does_not_follow_is_refused(llama: Path) -> None:
    model = compressed(load_tiny(llama), SinkWindow(20))
    model.forward([segment(0, 0, tokens(10))])

    with pytest.raises(GenerationError, match="begin anew"):
        model.forward([segment(0, 9, [1])])
    with pytest.raises(GenerationError, match="begin anew"):
        model.forward([segment(1, 5, [1])])


def test_a_sequence_forgets_who_had_its_pages_before(llama: Path) -> None:
    model = compressed(load_tiny(llama), KEEP_ALL)
    model.forward([segment(0, 0, tokens(40))])
    other = replace(segment(1, 0, tokens(40)), pages=segment(1, 0, [1]).pages[:1] + segment(0, 0, [1]).pages[:2])

    model.forward([other])

    assert len(counts(model)) == 3


def test_heads_that_bytes_do_not_divide_are_refused(tmp_path: Path) -> None:
    save_tiny("gemma3_text", tmp_path)

    with pytest.raises(ValueError, match="heads of 10"):
        compressed(load_tiny(tmp_path), MixedBits([(2, 2)]))


def test_a_loaded_model_has_the_policy_that_is_asked_for(llama: Path) -> None:
    model = load_model(llama, LoadOptions("float32", slots=2, kv_policy="window:20")).model
    plain = load_model(llama, LoadOptions("float32", slots=2)).model

    assert isinstance(model, Compressed)
    assert isinstance(model.policy, SinkWindow)
    assert not isinstance(plain, Compressed)
    assert not model.shares
    assert model.page_count == 2 * 128 // 16


@pytest.mark.parametrize("options", [LoadOptions("int8"), LoadOptions(expert_bytes=1)])
def test_a_policy_is_refused_where_torch_does_not_compute(llama: Path, options: LoadOptions) -> None:
    with pytest.raises(ValueError, match="kv_policy window:20 is for torch"):
        load_model(llama, replace(options, kv_policy="window:20"))


def test_equal_prompts_at_once_share_nothing_and_say_the_same(llama: Path) -> None:
    model = compressed(load_tiny(llama), SinkWindow(24))
    scheduler = Scheduler(model, 2)
    both = [
        new_sequence(tokens(70), Sampling(max_tokens=20, temperature=0), Tokenizer(byte_tokenizer(), {}, [257]), 128)
        for _ in range(2)
    ]
    for sequence in both:
        scheduler.add(sequence)

    while not scheduler.idle:
        scheduler.step()

    assert both[0].history.generated == both[1].history.generated
    assert scheduler.pages.found_tokens == 0
