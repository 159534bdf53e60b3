"""A vLLM plugin: on CPU, requests to the base model stay untouched by the adapters in the same batch.

vLLM marks a token without adapter with index -1. Its Triton kernels skip those; its CPU operations index with it and so
apply the *last* loaded adapter to the base model's tokens (vllm-project/vllm pull request 48421, open for 0.32): stable
traffic would change whenever a candidate is asked beside it. These replacements multiply the rows of each adapter once,
instead of gathering a copy of the weights for every token, which also makes mixed batches twice as fast.

vLLM finds this file through the metadata beside it when the folder is on PYTHONPATH, and runs `register` in each of its
processes. It is no part of the `tasks` package: it runs in vLLM's environment.
"""

from collections.abc import Iterator

import torch

Rows = slice | torch.Tensor
REPLACED = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice", "sgmv_shrink", "sgmv_expand", "sgmv_expand_slice")


def register() -> None:
    """Puts the operations below in place of vLLM's; does nothing on a GPU."""
    from vllm.platforms import current_platform  # type: ignore[import-not-found]

    if not current_platform.is_cpu():
        return
    from vllm.lora.punica_wrapper import punica_cpu  # type: ignore[import-not-found]

    missing = [name for name in REPLACED if not hasattr(punica_cpu, name)]
    if missing:
        raise RuntimeError(
            f"this vLLM's CPU LoRA code has no {missing}: check whether base-model requests are still changed by "
            "adapters in the same batch, then adapt or remove Slipway's vLLM plugin"
        )
    for name in REPLACED:
        setattr(punica_cpu, name, globals()[name])


def rows_by_adapter(indices: torch.Tensor, lengths: torch.Tensor | None = None) -> Iterator[tuple[int, Rows]]:
    """Which rows belong to which adapter. `indices`: one for each row, or each run of `lengths` rows; -1 is none."""
    if lengths is None:
        indices, lengths = torch.unique_consecutive(indices, return_counts=True)
    runs: dict[int, list[tuple[int, int]]] = {}
    start = 0
    for adapter, length in zip(indices.tolist(), lengths.tolist(), strict=True):
        if adapter >= 0:
            runs.setdefault(adapter, []).append((start, start + length))
        start += length
    for adapter, spans in runs.items():
        one = len(spans) == 1
        yield adapter, slice(*spans[0]) if one else torch.cat([torch.arange(*span) for span in spans])


def _shrink(
    inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, rows: Iterator[tuple[int, Rows]], scale: float
) -> None:
    """output[row, :rank] = scale * inputs[row] @ A(adapter of row).T; other rows become zero."""
    weights = weights.squeeze(1) if weights.dim() == 4 else weights  # [adapters, rank, hidden]
    output.zero_()
    for adapter, chosen in rows:
        product = inputs[chosen].to(weights.dtype) @ weights[adapter].T
        output[chosen, : weights.shape[1]] = product.to(output.dtype) * scale


def _expand(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    output: torch.Tensor,
    rows: Iterator[tuple[int, Rows]],
    columns: tuple[int, int],
    add: bool,
) -> None:
    """output[row, first:first+count] += inputs[row] @ B(adapter of row).T; other rows keep what they have."""
    weights = weights.squeeze(1) if weights.dim() == 4 else weights  # [adapters, out, rank]
    first, count = columns
    count = min(count, weights.shape[1], output.shape[1] - first)
    for adapter, chosen in rows:
        product = (inputs[chosen].to(weights.dtype) @ weights[adapter, :count].T).to(output.dtype)
        if add:
            output[chosen, first : first + count] += product
        else:
            output[chosen, first : first + count] = product


def bgmv_shrink(
    inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, indices: torch.Tensor, scaling: float = 1.0
) -> None:
    """vLLM's operation of that name: `indices` has an adapter, or -1, for each row.

    vLLM calls it for the logits too, with one index a sequence. For prompt log-probabilities (which lm-eval asks for)
    there are more rows than sequences, and the engine died of it. Adapters of the output layer are never served, so
    these rows have nothing to add.
    """
    if len(indices) != len(inputs):
        output.zero_()
        return
    _shrink(inputs, weights, output, rows_by_adapter(indices), scaling)


def bgmv_expand(
    inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, indices: torch.Tensor, add_inputs: bool = True
) -> None:
    """vLLM's operation of that name; see `bgmv_shrink` for rows without an index."""
    if len(indices) == len(inputs):
        _expand(inputs, weights, output, rows_by_adapter(indices), (0, output.shape[1]), add_inputs)


def bgmv_expand_slice(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    output: torch.Tensor,
    indices: torch.Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """vLLM's operation of that name."""
    _expand(inputs, weights, output, rows_by_adapter(indices), (slice_offset, slice_size), add_inputs)


def sgmv_shrink(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    output: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    indices: torch.Tensor,
    batches: int,
    max_length: int,
    tokens: int,
    scaling: float,
) -> None:
    """vLLM's operation of that name: `indices` has an adapter, or -1, for each run of `lengths` rows."""
    _shrink(inputs, weights, output, rows_by_adapter(indices, lengths), scaling)


def sgmv_expand(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    output: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    indices: torch.Tensor,
    batches: int,
    max_length: int,
    tokens: int,
    add_inputs: bool = False,
) -> None:
    """vLLM's operation of that name."""
    _expand(inputs, weights, output, rows_by_adapter(indices, lengths), (0, output.shape[1]), add_inputs)


def sgmv_expand_slice(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    output: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    indices: torch.Tensor,
    batches: int,
    max_length: int,
    tokens: int,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = False,
) -> None:
    """vLLM's operation of that name."""
    _expand(inputs, weights, output, rows_by_adapter(indices, lengths), (slice_offset, slice_size), add_inputs)
