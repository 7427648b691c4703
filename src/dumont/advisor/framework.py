"""Frameworks: what each piece of software keeps in memory and how much time it spends launching."""

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Framework:
    """Behaviour of one framework that memory and time depend on; every value follows from its code or its
    documentation.

    master: trains fp32 master weights and fp32 Adam states beside 16-bit weights.
    logit_bytes: bytes per logit at the peak of the loss. Cross-entropy in fp32, kernel by kernel, peaks in its backward
    pass: log-probabilities, their gradient and that of the logits (torch.autograd); fewer when chunked or in 16 bit.
    fused_norm: normalisation keeps one 16-bit input, no fp32 copy (compiled or hand-written kernels).
    checkpointing: what the usual recipe does when a job does not say.
    accumulates: keeps gradients while the next micro-batch runs forward, as the usual recipe accumulates.
    lora_rank, lora_all: the usual adapter: its rank, and whether it sits on all linear layers or on query and value
    only.
    lora_dropout: whether adapters keep a dropped-out copy of their input.
    own_dropout: whether each adapter drops its input by itself (PEFT), rather than one for query, key and value.
    buffers_gb: communication buckets and workspaces that are there even on one GPU.
    kbit_fp32: unquantised weights are raised to fp32 before quantised training.
    bnb_fp32: activations outside quantised products are kept in fp32.
    kv_growth: cache allocated over cache used without fused attention (one grown by concatenation is there twice).
    issue_bytes: bytes per multiprocessor and clock that its matrix-vector products keep in flight.
    prefill_logit_bytes: bytes per logit of the whole prompt, 0 when only the last token's are computed.
    launch_us: microseconds per layer to launch one forward pass from Python, 0 with CUDA graphs or C++ loops.
    reach: share of the memory bandwidth that single-stream decoding reaches.
    mfu: share of the reachable matrix rate that large training products reach.
    serving: whether it batches requests continuously.
    master_is_weight: whether the fp32 weights are the only resident ones (16-bit ones are made layer by layer).
    adapters_fp32: whether adapters' optimizer states are fp32 (PEFT raises adapters to fp32).
    flat_gradients: whether the optimizer step copies gradients flat and to fp32.
    whole_gradients: whether accumulation under FSDP keeps whole gradients (no_sync, PyTorch FSDP documentation).
    live_parameters: parameters that offloaded sharding keeps on the card (stage3_max_live_parameters), 0 = by layer.
    own_units: whether embedding and head are sharded as units of their own.
    context_gb: what the CUDA context with the framework's kernels takes.
    host_checkpoints: whether checkpoints go to the host's memory.
    packs_head: whether a quantiser packs the output head too.
    checkpoints_shards: whether it checkpoints when it shards over several GPUs, and only then.
    default_batch: the batch per GPU that it takes when none is given, 0 = it must be given.
    head_may_train: whether adapters of a base model also train embedding and head, as its guide says.
    fused_loss_optional: whether its fused loss is a switch of the recipe.
    unties: whether it holds tied embeddings twice.
    first_flash: whether its published figures used the first FlashAttention.
    accelerate: whether sharding goes through Accelerate, which raises trained weights to fp32.
    auto_bucket: whether its ZeRO-3 configuration leaves the bucket's size to transformers.
    fsdp2_as_loaded: whether its own FSDP2 leaves trained weights as wide as they were loaded.
    loads_packed_whole: whether sharding 4-bit weights starts with all of them on every GPU.
    """

    name: str
    words: tuple[str, ...]
    master: bool = False
    logit_bytes: float = 14.0
    fused_norm: bool = False
    checkpointing: str = "yes"
    accumulates: bool = False
    lora_rank: int = 16
    lora_all: bool = True
    lora_dropout: bool = True
    own_dropout: bool = False
    buffers_gb: float = 0.0
    kbit_fp32: bool = False
    bnb_fp32: bool = False
    kv_growth: float = 1.0
    issue_bytes: float = 8.0
    prefill_logit_bytes: float = 0.0
    launch_us: float = 600.0
    reach: float = 0.75
    mfu: float = 0.85
    serving: bool = False
    accelerate: bool = False
    auto_bucket: bool = False
    fsdp2_as_loaded: bool = False
    loads_packed_whole: bool = False
    first_flash: bool = False
    unties: bool = False
    fused_loss_optional: bool = False
    packs_head: bool = False
    checkpoints_shards: bool = False
    default_batch: int = 0
    head_may_train: bool = False
    master_is_weight: bool = False
    adapters_fp32: bool = True
    flat_gradients: bool = False
    whole_gradients: bool = False
    live_parameters: float = 0.0
    own_units: bool = False
    context_gb: float = 0.5
    host_checkpoints: bool = False
    source: str = ""


_GENERIC = Framework(
    "PyTorch",
    (),
    logit_bytes=12.0,
    own_dropout=True,
    kbit_fp32=True,
    source="PyTorch and transformers defaults (eager, SDPA)",
)

FRAMEWORKS = (
    Framework(
        "Unsloth",
        ("unsloth",),
        logit_bytes=2.0,
        fused_norm=True,
        lora_dropout=False,
        launch_us=450.0,
        host_checkpoints=True,
        source="unsloth kernels/cross_entropy_loss.py and fast_lora.py: chunked loss, adapters without saved copies",
    ),
    Framework(
        "torchtune",
        ("torchtune",),
        logit_bytes=3.0,
        lora_rank=8,
        lora_all=False,
        adapters_fp32=False,
        own_units=True,
        source="torchtune CEWithChunkedOutputLoss: bf16 logits in 8 chunks, one in fp32; bf16 states",
    ),
    Framework(
        "torchtitan",
        ("torchtitan",),
        master=True,
        logit_bytes=12.0,
        checkpointing="selective",
        mfu=0.85,
        master_is_weight=True,
        own_units=True,
        source="torchtitan: fp32 parameters sharded by FSDP2, bf16 products, selective checkpointing",
    ),
    Framework(
        "LitGPT",
        ("litgpt", "lit-gpt", "lit gpt"),
        logit_bytes=10.0,
        checkpointing="no",
        accumulates=True,
        lora_rank=8,
        lora_all=False,
        bnb_fp32=True,
        unties=True,
        launch_us=1000.0,
        adapters_fp32=False,
        whole_gradients=True,
        packs_head=True,
        checkpoints_shards=True,
        source="LitGPT finetune/lora.py and model.py: bf16-true, no checkpointing on one GPU, fp32 normalisation",
    ),
    Framework(
        "DeepSpeed",
        ("deepspeed", "qwen finetune"),
        own_dropout=True,
        master=True,
        logit_bytes=14.0,
        accumulates=True,
        lora_rank=64,
        head_may_train=True,
        buffers_gb=0.8,
        kbit_fp32=True,
        launch_us=750.0,
        flat_gradients=True,
        live_parameters=1e9,
        source="DeepSpeed stage_1_and_2.py: fp32 master and flat gradients, two reduce buckets of 2e8",
    ),
    Framework(
        "axolotl",
        ("axolotl",),
        auto_bucket=True,
        own_dropout=True,
        accelerate=True,
        fsdp2_as_loaded=True,
        loads_packed_whole=True,
        accumulates=True,
        logit_bytes=2.0,
        lora_rank=32,
        fused_loss_optional=True,
        launch_us=500.0,
        source="axolotl example recipes: Cut Cross-Entropy, FlashAttention, checkpointing, sample packing",
    ),
    Framework(
        "fsdp_qlora",
        ("fsdp_qlora", "fsdp-qlora"),
        logit_bytes=12.0,
        lora_rank=64,
        source="AnswerDotAI/fsdp_qlora train.py",
    ),
    Framework(
        "TRL",
        ("trl", "sft"),
        own_dropout=True,
        accelerate=True,
        logit_bytes=12.0,
        lora_rank=16,
        kbit_fp32=False,
        accumulates=True,
        default_batch=8,
        source="TRL SFTTrainer with Accelerate",
    ),
    Framework(
        "PEFT",
        ("peft",),
        own_dropout=True,
        accelerate=True,
        logit_bytes=12.0,
        lora_rank=8,
        lora_all=False,
        checkpointing="no",
        kbit_fp32=True,
        live_parameters=1e9,
        default_batch=8,
        source="PEFT examples: target modules query and value, loss of transformers models",
    ),
    Framework(
        "HF Trainer",
        ("trainer", "llama-factory", "llamafactory"),
        auto_bucket=True,
        own_dropout=True,
        accelerate=True,
        logit_bytes=12.0,
        checkpointing="no",
        kbit_fp32=True,
        accumulates=True,
        launch_us=750.0,
        context_gb=1.3,
        default_batch=8,
        source="transformers Trainer",
    ),
    Framework(
        "Megatron",
        ("megatron", "nemo"),
        master=True,
        logit_bytes=6.0,
        lora_all=False,
        lora_dropout=False,
        fused_norm=True,
        checkpointing="no",
        launch_us=200.0,
        mfu=0.9,
        source="Megatron-Core: fused kernels, vocabulary-parallel loss, distributed optimizer",
    ),
    Framework(
        "llm-foundry",
        ("foundry", "composer"),
        master=True,
        logit_bytes=12.0,
        launch_us=400.0,
        first_flash=True,
        source="llm-foundry scripts/train/benchmarking",
    ),
    Framework(
        "llm.c",
        ("llm.c",),
        master=True,
        logit_bytes=2.0,
        fused_norm=True,
        checkpointing="no",
        launch_us=50.0,
        source="llm.c train_gpt2.cu: fused classifier, bf16 with fp32 master",
    ),
    Framework(
        "nanoGPT", ("nanogpt",), logit_bytes=12.0, checkpointing="no", launch_us=200.0, source="nanoGPT train.py"
    ),
    Framework("vLLM", ("vllm",), launch_us=0.0, reach=0.75, serving=True, source="vLLM: paged cache, CUDA graphs"),
    Framework(
        "SGLang", ("sglang",), launch_us=0.0, reach=0.75, serving=True, source="SGLang: paged cache, CUDA graphs"
    ),
    Framework("TensorRT-LLM", ("tensorrt", "trt"), launch_us=0.0, reach=0.8, serving=True, source="TensorRT-LLM"),
    Framework("TGI", ("tgi", "text-generation-inference"), launch_us=0.0, reach=0.7, serving=True, source="TGI"),
    Framework(
        "llama.cpp",
        ("llama.cpp", "llamacpp", "ollama", "gguf"),
        launch_us=30.0,
        reach=0.85,
        issue_bytes=5.6,
        source="llama.cpp CUDA backend",
    ),
    Framework(
        "AutoAWQ",
        ("autoawq",),
        prefill_logit_bytes=4.0,
        launch_us=50.0,
        reach=0.8,
        source="AutoAWQ fused modules: preallocated cache, logits of the whole prompt",
    ),
    Framework("ExLlama", ("exllama",), launch_us=50.0, reach=0.8, source="ExLlamaV2"),
    Framework("gpt-fast", ("gpt-fast",), launch_us=0.0, reach=0.8, source="gpt-fast: compiled decoding"),
    Framework(
        "transformers",
        ("transformers", "hf "),
        logit_bytes=12.0,
        launch_us=600.0,
        kbit_fp32=True,
        kv_growth=2.0,
        source="transformers generate(): eager layers",
    ),
)


@lru_cache(maxsize=1024)
def framework_named(text: str) -> Framework:
    """The framework a text names; plain PyTorch behaviour when it names none."""
    low = f"{text.lower()} "
    return next((framework for framework in FRAMEWORKS if any(word in low for word in framework.words)), _GENERIC)
