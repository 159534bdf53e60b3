"""The base model as a folder of safetensors, wherever it comes from, and the digest that says which one it is."""

import functools
import importlib.metadata
import json
from pathlib import Path

from configs.canonical import digest_of, short
from configs.errors import Problem, SlipwayError
from configs.model import ModelConfig
from delivery.clients.bundles.adapters import file_digest
from delivery.clients.fresh_folder import fresh_folder
from delivery.progress import Progress, silent
from tasks import child

LOADED = (".safetensors", ".json", ".jinja", ".txt", ".model")  # what loading a model reads; never a pickle
LOADER = 1  # part of a dequantised model's key: raise it when tasks.training.gguf_worker would write something else


def prepare_model(config: ModelConfig, home: Path, on_progress: Progress = silent) -> Path:
    """The folder with config.json, safetensors, tokenizer and chat template; made on the first call where needed.

    Raises SlipwayError naming the field of model.yaml and the cure when the model is not there or not usable.
    """
    if config.package is not None:
        folder = _from_package(config.package, home.absolute(), on_progress)
    elif config.hub is not None and config.revision is not None:
        folder = _from_hub(config.hub, config.revision, on_progress)
    else:
        folder = (config.path or Path()).expanduser().absolute()
    _require_usable(config, folder)
    return folder


def require_source(config: ModelConfig) -> None:
    """Raises the SlipwayError of `prepare_model` for what is known without preparing anything."""
    if config.package is not None:
        _gguf_of(config.package)
    elif config.path is not None:
        _require_usable(config, config.path.expanduser().absolute())


def source_revision(config: ModelConfig, home: Path) -> str:
    """Which base model there is now, told before anything is prepared: another text stands for other weights."""
    if config.package is not None:
        return _package_folder(config.package, home.absolute())[0].name
    if config.hub is not None:
        return f"{config.hub}@{config.revision}"
    return model_revision((config.path or Path()).expanduser().absolute())


def is_prepared(config: ModelConfig, home: Path) -> bool:
    """Whether `prepare_model` would write nothing below `home`; False too when it would fail for want of the source."""
    if config.package is None:
        return True
    try:
        return _package_folder(config.package, home.absolute())[0].is_dir()
    except SlipwayError:
        return False


def prepared_folder(config: ModelConfig, home: Path) -> Path | None:
    """The model's folder where it can be read without preparing or downloading anything, and is usable."""
    try:
        if config.package is not None:
            folder = _package_folder(config.package, home.absolute())[0]
        elif config.hub is not None and config.revision is not None:
            folder = _from_hub_cache(config.hub, config.revision)
        else:
            folder = (config.path or Path()).expanduser().absolute()
        return None if problems_with(folder) else folder
    except SlipwayError:  # what is wrong with it is said by `require_source`
        return None


def model_revision(folder: Path) -> str:
    """`sha256:...` over the names and contents of the files that loading reads. Raises SlipwayError without any."""
    if not (folder / "config.json").is_file():
        raise SlipwayError(f"there is no base model in {folder}: config.json is missing", where="model.yaml")
    files = sorted(path for path in folder.iterdir() if path.suffix in LOADED and path.is_file())
    stats = [(str(path), path.stat()) for path in files]
    return _revision(tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


@functools.lru_cache(maxsize=8)
def _revision(files: tuple[tuple[str, int, int], ...]) -> str:
    """Sizes and times are only the cache's key: within one process a model is read once."""
    return digest_of({Path(name).name: file_digest(Path(name)) for name, _, _ in files})


def _require_usable(config: ModelConfig, folder: Path) -> None:
    problems = problems_with(folder)
    if problems:
        raise SlipwayError(f"{folder} is no usable base model", where=_field(config), problems=problems)


def problems_with(folder: Path) -> list[Problem]:
    """Why a folder cannot be used as base model; empty when it can."""
    if not folder.is_dir():
        return [Problem(str(folder), "there is no such folder", "give the folder that holds config.json")]
    names = {path.name for path in folder.iterdir()}
    problems = []
    if not any(name.endswith(".safetensors") for name in names):
        pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
        what = f"weights only as pickle: {', '.join(pickles)}" if pickles else "no *.safetensors"
        problems.append(Problem(str(folder), what, "save the weights as safetensors; a pickle runs code when read"))
    if "config.json" not in names:
        problems.append(Problem(str(folder), "config.json is missing"))
    elif "auto_map" in _json(folder / "config.json"):
        what = "the model brings its own code (auto_map), which is never run"
        problems.append(Problem(str(folder / "config.json"), what, "use a model that transformers knows"))
    if "tokenizer.json" not in names:
        problems.append(Problem(str(folder), "tokenizer.json is missing", "save a fast tokenizer beside the weights"))
    elif "chat_template.jinja" not in names and "chat_template" not in _json(folder / "tokenizer_config.json"):
        problems.append(Problem(str(folder), "no chat template", "use a chat model, or add chat_template.jinja"))
    return problems


def _json(path: Path) -> dict[str, object]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SlipwayError(f"{path} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}


def _field(config: ModelConfig) -> str:
    return "model.yaml: " + next(name for name in ("package", "path", "hub") if getattr(config, name) is not None)


def _gguf_of(package: str) -> importlib.metadata.PackagePath:
    """Finds it by the package's metadata: its module needs an `llm` runtime that is left out on purpose."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise SlipwayError(
            f"the package {package} is not installed", where="model.yaml: package", cure=f"pip install {package}"
        ) from None
    gguf = next((file for file in files if file.suffix == ".gguf"), None)
    if gguf is None or not Path(str(gguf.locate())).is_file():
        raise SlipwayError(f"the package {package} holds no GGUF file", where="model.yaml: package")
    return gguf


def _package_folder(package: str, home: Path) -> tuple[Path, importlib.metadata.PackagePath]:
    """Where the package's model is kept once it is dequantised, and the file that it comes from."""
    gguf = _gguf_of(package)
    recorded = gguf.hash.value if gguf.hash else importlib.metadata.version(package)
    key = digest_of({"package": package, "file": gguf.name, "hash": recorded, "loader": LOADER})
    return home / "models" / short(key), gguf


def _from_package(package: str, home: Path, on_progress: Progress) -> Path:
    folder, gguf = _package_folder(package, home)
    if not folder.is_dir():
        _dequantise(Path(str(gguf.locate())), folder, on_progress)
    return folder


def _dequantise(gguf: Path, folder: Path, on_progress: Progress) -> None:
    with fresh_folder(folder.parent, f"model {folder.name}") as work:
        fresh, spec, log = work / "model", work / "spec.json", folder.with_name(f"{folder.name}.log")
        fresh.mkdir()
        spec.write_text(json.dumps({"gguf": str(gguf), "target": str(fresh)}), encoding="utf-8")
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        child.call("tasks.training.gguf_worker", spec, log, lambda event: on_progress(0, 0, event["text"]), offline)
        fresh.chmod(0o755)
        for path in fresh.iterdir():
            path.chmod(0o644)  # the weights come out readable by their owner alone
        if not folder.is_dir():  # someone else may have been as fast
            fresh.replace(folder)


def _from_hub_cache(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise SlipwayError(f"{name} at {revision} is not in the local cache") from error


def _from_hub(name: str, revision: str, on_progress: Progress) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    on_progress(0, 0, f"{name} at {revision[:12]}: from the hub's cache, or downloading")
    patterns = [f"*{suffix}" for suffix in LOADED]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except LocalEntryNotFoundError as error:
        cure = "unset HF_HUB_OFFLINE and see that huggingface.co is reachable, or give `path` to a folder"
        raise SlipwayError(
            f"{name} at {revision} is not in the local cache", where="model.yaml: hub", cure=cure
        ) from error
    except HfHubHTTPError as error:
        cure = "check the name and the revision, and for a gated model log in with `hf auth login`"
        raise SlipwayError(
            f"the hub refuses {name} at {revision}: {error}", where="model.yaml: hub", cure=cure
        ) from error
