"""How much memory a training takes, by formula, and whether layers have to be computed twice so that it fits.

All figures follow from sizes: what torch's autograd keeps of the layers as transformers writes them (RMSNorm in float32, rotary
positions, attention by a flash kernel, gated feed-forward), and what trl's fused output layer needs. With b bytes per number,
hidden size h, query width q, key width k and feed-forward width f, one layer keeps per token:

    two norms                  2 (4 h + 2 b h)    input in float32, its normalised form, their product with the weight
    attention                  b (2 q + 2 k)      queries, keys, values, output
    feed-forward               4 b f              gate, its activation, up, their product

Frozen weights keep no input of theirs; an adapter keeps its input in its own type, and its `rank` inner numbers. With recompute
a layer keeps its input alone (b h), and one layer at a time is there whole. Tests hold the formula against what autograd really
keeps.
"""

from typing import Literal

import msgspec
import psutil

from services.training.preflight.shape import ModelShape
from shared.domain.errors import InputRefused
from shared.domain.training import Method, TrainParameters, Tuning

MARGIN = 0.1
"""Share of the memory left to what is not counted: the driver's context, kernels' workspaces, gaps between blocks. A margin of
this project's choice, not a measurement."""

_FLOAT32 = 4
_HEAD_TILE_TOKENS = 4096
_HEAD_TILE_WIDTH = 32768
"""Tile of logits in trl's fused output layer (trl 1.16, `kernels/chunked_logprob.py`)."""

_FOUR_BIT_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per weight in 4 bits: half a byte, a byte per block of 64, a float32 per 256 blocks (Dettmers et al. 2023, arXiv 2305.14314,
section 3, double quantisation)."""

_EIGHT_BIT_STATE_BYTES = 2 * (1 + 4 / 256)
"""Per weight: two states of a byte, each with a float32 per block of 256 (bitsandbytes, block-wise AdamW8bit)."""


class Device(msgspec.Struct, frozen=True):
    """Where a training runs. `memory_bytes`: of one GPU, or what this machine has to give; `processes` on a CPU share it."""

    kind: Literal["cuda", "cpu"]
    memory_bytes: int
    name: str = ""


class MemoryEstimate(msgspec.Struct, frozen=True):
    """Bytes that one process holds at the peak of a step."""

    recompute: bool
    weights: int
    gradients: int
    optimizer: int
    activations: int
    output_layer: int
    gathered: int
    """Weights of other processes that are there while a layer is computed."""

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.output_layer + self.gathered


class Load(msgspec.Struct, frozen=True):
    """What one micro-batch brings at most: tokens, and those of them with a loss."""

    tokens: int
    loss_tokens: int


def this_device() -> Device:
    """The first GPU, or this machine's free memory."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Device("cuda", properties.total_memory, properties.name)
    return Device("cpu", psutil.virtual_memory().available, "CPU")


def estimate_memory(
    parameters: TrainParameters, shape: ModelShape, load: Load, *, recompute: bool, device: Device
) -> MemoryEstimate:
    """The peak of one process, by the formula above."""
    number = _bytes(parameters)
    full = parameters.tuning is Tuning.FULL
    # FSDP shares out weights, gradients and states over GPUs; on CPUs every process has all of them.
    shards = parameters.processes if device.kind == "cuda" else 1
    base = _base_weights(parameters, shape, number)
    trained = shape_parameters(parameters, shape) if full else adapter_parameters(parameters, shape)
    trained_bytes = number if full else _adapter_bytes(parameters)
    states = _optimizer_bytes(parameters, shape, trained, trained_bytes)
    weights = base if full else base + trained * trained_bytes
    one_layer = shape.linear_parameters // shape.layers * number
    return MemoryEstimate(
        recompute=recompute,
        weights=int(weights / shards),
        gradients=int(trained * trained_bytes / shards),
        optimizer=int(states / shards),
        activations=_activations(parameters, shape, load, recompute),
        output_layer=_output_layer(parameters, shape, load),
        # Two layers at a time (the next is fetched ahead), and the embeddings or the output layer.
        gathered=0 if shards == 1 else 2 * one_layer + shape.embedding_parameters * number,
    )


def shape_parameters(parameters: TrainParameters, shape: ModelShape) -> int:
    """Weights of the model: with the output layer of a language model (none of its own where tied), or one score."""
    head = (
        shape.hidden
        if parameters.method is Method.REWARD
        else 0
        if shape.tied_embeddings
        else shape.embedding_parameters
    )
    return shape.linear_parameters + shape.embedding_parameters + shape.norm_parameters + head


def adapter_parameters(parameters: TrainParameters, shape: ModelShape) -> int:
    """Weights of the adapters: rank x (inputs + outputs) of each target, and a reward model's score layer."""
    sizes = [shape.linear_layers[name] for name in _targets(parameters, shape)]
    adapters = shape.layers * parameters.lora.rank * sum(inputs + outputs for inputs, outputs in sizes)
    return adapters + (shape.hidden if parameters.method is Method.REWARD else 0)


def decide_recompute(
    parameters: TrainParameters, shape: ModelShape | None, load: Load, device: Device
) -> tuple[bool, MemoryEstimate | None]:
    """Whether layers are computed twice, and what memory the training then takes by estimate.

    `auto`: where it would not fit otherwise, and where the estimate does not know the architecture (`shape` None).
    Raises InputRefused where it does not fit: what takes how much, and each single change that would make it fit.
    """
    if shape is None:
        return parameters.recompute != "never", None
    choices = {"always": (True,), "never": (False,), "auto": (False, True)}[parameters.recompute]
    for recompute in choices:
        estimate = estimate_memory(parameters, shape, load, recompute=recompute, device=device)
        if estimate.total <= usable_bytes(parameters, device):
            return recompute, estimate
    raise _does_not_fit(parameters, shape, load, device, estimate)


def usable_bytes(parameters: TrainParameters, device: Device) -> int:
    """What one process may take: all but the margin; processes on a CPU share one memory."""
    sharing = parameters.processes if device.kind == "cpu" else 1
    return int(device.memory_bytes * (1 - MARGIN) / sharing)


def _bytes(parameters: TrainParameters) -> int:
    return 2 if parameters.precision == "bf16" else _FLOAT32


def _adapter_bytes(parameters: TrainParameters) -> int:
    """Adapters are in float32 also over a bf16 base, unless they are shared out over processes."""
    return _FLOAT32 if parameters.processes == 1 else _bytes(parameters)


def _base_weights(parameters: TrainParameters, shape: ModelShape, number: int) -> int:
    if parameters.tuning is not Tuning.QLORA:
        return shape_parameters(parameters, shape) * number
    others = shape_parameters(parameters, shape) - shape.linear_parameters
    return int(shape.linear_parameters * _FOUR_BIT_BYTES) + others * number


def _optimizer_bytes(parameters: TrainParameters, shape: ModelShape, trained: int, number: int) -> float:
    if parameters.optimizer == "adamw":
        return 2 * number * trained
    # transformers keeps the states of embeddings in float32 beside an 8-bit optimizer.
    in_full = shape.embedding_parameters if parameters.tuning is Tuning.FULL else 0
    return 2 * _FLOAT32 * in_full + _EIGHT_BIT_STATE_BYTES * (trained - in_full)


def _targets(parameters: TrainParameters, shape: ModelShape) -> list[str]:
    names = shape.linear_layers
    return (
        [name for name in names if name in parameters.lora.target_modules]
        if parameters.lora.target_modules
        else [*names]
    )


def layer_bytes_per_token(parameters: TrainParameters, shape: ModelShape) -> int:
    """What autograd keeps of one layer, per token."""
    number = _bytes(parameters)
    attention = number * (2 * shape.queries + 2 * shape.keys) + _FLOAT32 * shape.heads
    # A float32 model's norms take the hidden states themselves for their float32 input.
    norm_inputs = 2 * (_FLOAT32 * shape.hidden + _FLOAT32)
    if parameters.tuning is Tuning.FULL:
        return norm_inputs + 4 * number * shape.hidden + attention + 4 * number * shape.feed_forward
    return norm_inputs + attention + 3 * number * shape.feed_forward + _adapter_inputs(parameters, shape)


def _adapter_inputs(parameters: TrainParameters, shape: ModelShape) -> int:
    own, base = _adapter_bytes(parameters), _bytes(parameters)
    targets = _targets(parameters, shape)
    inner = own * parameters.lora.rank * len(targets)
    if own == base and not parameters.lora.dropout:
        # The input itself is kept, once for all that read it; that of o_proj is the output of attention, kept already.
        read = {
            "q_proj": "attention",
            "k_proj": "attention",
            "v_proj": "attention",
            "gate_proj": "mlp",
            "up_proj": "mlp",
        }
        kept = {read.get(name, name): shape.linear_layers[name][0] for name in targets if name != "o_proj"}
        return inner + own * sum(kept.values())
    # Each adapter has a copy in its own type; with dropout, one after it, and what was dropped (a number again).
    copies = sum(shape.linear_layers[name][0] for name in targets)
    return inner + own * copies * (2 if parameters.lora.dropout else 1)


def _activations(parameters: TrainParameters, shape: ModelShape, load: Load, recompute: bool) -> int:
    number = _bytes(parameters)
    layer = layer_bytes_per_token(parameters, shape)
    # Backward of one layer: gradients of its feed-forward part and of the hidden states.
    backward = number * (4 * shape.feed_forward + 4 * shape.hidden)
    layers = shape.layers * number * shape.hidden + layer if recompute else shape.layers * layer
    around = number * shape.hidden + _FLOAT32 * shape.hidden + 2 * number * shape.hidden  # embeddings, last norm
    largest = max(inputs * outputs for inputs, outputs in shape.linear_layers.values())
    unpacked = 2 * number * largest if parameters.tuning is Tuning.QLORA else 0
    return load.tokens * (layers + backward + around) + unpacked


def _output_layer(parameters: TrainParameters, shape: ModelShape, load: Load) -> int:
    """trl's fused output layer: hidden states of labelled tokens with their gradient in float32, one tile of logits, and the
    gradient of the output layer in float32 where that is trained. A reward model projects one token per text."""
    if parameters.method is Method.REWARD:
        return 0
    number = _bytes(parameters)
    tokens = load.tokens if parameters.method is Method.ORPO else load.loss_tokens
    tile = min(tokens, _HEAD_TILE_TOKENS) * _HEAD_TILE_WIDTH * number
    gradient = shape.embedding_parameters * _FLOAT32 if parameters.tuning is Tuning.FULL else 0
    return tile + tokens * shape.hidden * (_FLOAT32 + 2 * number) + gradient


def _does_not_fit(
    parameters: TrainParameters, shape: ModelShape, load: Load, device: Device, estimate: MemoryEstimate
) -> InputRefused:
    limit = usable_bytes(parameters, device)
    parts = ", ".join(
        f"{name.replace('_', ' ')} {gibibytes(size)}"
        for name, size in msgspec.structs.asdict(estimate).items()
        if name != "recompute" and size
    )
    helpful = [
        words
        for words, changed, changed_load in _changes(parameters, load)
        if _fits(changed, shape, changed_load, device)
    ]
    what = "; or ".join(helpful) if helpful else "take a smaller base model, or a device with more memory"
    where = device.name or device.kind
    return InputRefused(
        f"the training needs about {gibibytes(estimate.total)} ({parts}; {load.tokens:,} tokens at once, recompute "
        f"{'on' if estimate.recompute else 'off'}), but {where} has {gibibytes(device.memory_bytes)}, of which "
        f"{gibibytes(limit)} may be planned for{' by each process' if limit * 2 < device.memory_bytes else ''}. What would fit: "
        f"{what}",
        _pointer(helpful),
    )


def _changes(parameters: TrainParameters, load: Load) -> list[tuple[str, TrainParameters, Load]]:
    """Single changes that save memory, the cheapest first; each with recompute, which costs time alone."""
    eased = parameters.model_copy(update={"recompute": "always"})
    changes: list[tuple[str, TrainParameters, Load]] = []
    if parameters.recompute == "never":
        changes.append(("set recompute to auto", eased, load))
    if parameters.micro_batch > 1:
        each = Load(-(-load.tokens // parameters.micro_batch), -(-load.loss_tokens // parameters.micro_batch))
        changes.append(("set micro_batch to 1", eased.model_copy(update={"micro_batch": 1}), each))
    if parameters.optimizer == "adamw" and parameters.processes == 1:
        changes.append(("set optimizer to adamw_8bit", eased.model_copy(update={"optimizer": "adamw_8bit"}), load))
    if parameters.precision == "fp32":
        changes.append(("set precision to bf16", eased.model_copy(update={"precision": "bf16"}), load))
    if parameters.packs_rows and load.tokens >= 2048:
        half = Load(load.tokens // 2, load.loss_tokens // 2)
        changes.append((f"set maximum_length to {parameters.maximum_length // 2}", eased, half))
    if parameters.tuning is Tuning.FULL:
        changes.append(("set tuning to lora", eased.model_copy(update={"tuning": Tuning.LORA}), load))
    if parameters.tuning is not Tuning.QLORA and parameters.method is not Method.REWARD and parameters.processes == 1:
        changes.append(("set tuning to qlora", eased.model_copy(update={"tuning": Tuning.QLORA}), load))
    return changes


def _fits(parameters: TrainParameters, shape: ModelShape, load: Load, device: Device) -> bool:
    estimate = estimate_memory(parameters, shape, load, recompute=True, device=device)
    return estimate.total <= usable_bytes(parameters, device)


def _pointer(helpful: list[str]) -> str:
    return f"/{helpful[0].split(' ')[1]}" if helpful else "/base"


def gibibytes(size: float) -> str:
    """`12.3 GiB`, or in MiB below a tenth of one."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"
