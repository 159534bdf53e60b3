"""The replacements for vLLM's CPU LoRA operations, held against the definition, row by row."""

import importlib.util
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

import pytest
import torch

import tasks.serving

FOLDER = Path(tasks.serving.__path__[0]) / "vllm_plugin"


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slipway_vllm", FOLDER / "slipway_vllm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUNS = [([-1], [5]), ([0], [4]), ([-1, 1, -1], [2, 3, 1]), ([1, -1, 0, 1], [1, 2, 3, 2]), ([0, 2, 0, -1], [2, 2, 1, 1])]


@pytest.mark.parametrize(("adapters", "lengths"), RUNS)
def test_each_row_gets_its_own_adapter_and_a_row_without_one_stays_as_it_is(plugin, adapters, lengths) -> None:
    torch.manual_seed(0)
    hidden, rank, columns, offset = 12, 4, 6, 3
    of_row = torch.repeat_interleave(torch.tensor(adapters), torch.tensor(lengths))
    rows = len(of_row)
    x, y = torch.randn(rows, hidden), torch.randn(rows, columns + 2 * offset)
    a, b = torch.randn(3, 1, rank, hidden), torch.randn(3, 1, columns, rank)
    expected = y.clone()
    for row, adapter in enumerate(of_row.tolist()):
        if adapter >= 0:
            expected[row, offset : offset + columns] += 0.5 * (x[row] @ a[adapter, 0].T) @ b[adapter, 0].T

    runs = (torch.zeros(0), torch.tensor(lengths), torch.tensor(adapters), len(adapters), max(lengths), rows)
    by_run, by_row = y.clone(), y.clone()
    low = torch.full((rows, rank), 7.0)
    plugin.sgmv_shrink(x, a, low, *runs, 0.5)
    plugin.sgmv_expand_slice(low, b, by_run, *runs, offset, columns, add_inputs=True)
    plugin.bgmv_shrink(x, a, low, of_row, 0.5)
    plugin.bgmv_expand_slice(low, b, by_row, of_row, offset, columns, add_inputs=True)

    for result in (by_run, by_row):
        torch.testing.assert_close(result, expected)
        without = of_row < 0
        assert torch.equal(result[without], y[without])


def test_expand_without_adding_replaces_only_the_rows_with_an_adapter(plugin) -> None:
    x, b, y = torch.ones(2, 3), torch.ones(1, 1, 4, 3), torch.full((2, 4), 9.0)
    plugin.bgmv_expand(x, b, y, torch.tensor([0, -1]), add_inputs=False)
    assert y.tolist() == [[3.0] * 4, [9.0] * 4]


def test_every_replaced_operation_exists_here(plugin) -> None:
    assert all(callable(getattr(plugin, name)) for name in plugin.REPLACED)


def test_the_metadata_beside_it_makes_vllm_find_it() -> None:
    found = [d for d in distributions(path=[str(FOLDER)]) if d.metadata["Name"] == "slipway-vllm"]
    assert [e.value for e in found[0].entry_points.select(group="vllm.general_plugins")] == ["slipway_vllm:register"]


def test_prompt_logprobs_which_come_with_more_rows_than_indices_add_nothing_and_end_nothing(plugin) -> None:
    x, a, b = torch.randn(10, 12), torch.randn(2, 4, 12), torch.randn(2, 6, 4)
    indices = torch.tensor([0, -1, 1])
    buffer, y = torch.randn(10, 4), torch.randn(10, 6)
    before = y.clone()
    plugin.bgmv_shrink(x, a, buffer, indices, 1.0)
    plugin.bgmv_expand(buffer, b, y, indices)
    assert not buffer.any()
    assert torch.equal(y, before)
