"""Builds a bundle's adapter once more, from what its manifest says alone, and compares the two byte by byte."""

import json
from pathlib import Path
from typing import Any

from configs.canonical import short
from configs.errors import SlipwayError
from configs.project import Project
from configs.strict import Strict
from configs.training import TrainingConfig
from delivery.build.bundle import Bundle
from delivery.build.difference import AdapterDifference, Tensors, compare_files, compare_tensors
from delivery.build.documents.origin import PROVENANCE
from delivery.clients.bundles.images import read_bundle, read_documents, unpack_adapter
from delivery.clients.fresh_folder import remove_whole
from delivery.progress import Progress, silent
from tasks.data.dataset import read_version
from tasks.mirror import mirror_of
from tasks.training.model import model_revision, prepare_model
from tasks.training.train import train, trainer

WEIGHTS = "adapter_model.safetensors"


class Rebuilt(Strict):
    """`changed`: code and packages that are not those of then, in words; None: the bundle does not say which it had."""

    bundle: str
    adapter: str  # digest of what was built now
    comparison: AdapterDifference
    changed: tuple[str, ...] | None
    seconds: float  # of training

    def render(self) -> str:
        """For people."""
        lines = [f"bundle {short(self.bundle)}, trained again in {self.seconds:.0f} s: {self.comparison.render()}"]
        if self.changed is None:
            lines.append("which code and packages it was trained with is not known: it has no provenance")
        elif self.changed:
            lines.append(f"not as then: {'; '.join(self.changed)}")
        else:
            lines.append("code and packages are those that it was trained with")
        return "\n".join(lines)


def rebuild(project: Project, home: Path, reference: str, on_progress: Progress = silent) -> Rebuilt:
    """Trains in a folder of its own, home/rebuilds/, which goes away afterwards; a killed one goes on.

    `project` says where the base model comes from. Raises SlipwayError where the base model's revision is another, or
    the rows are gone.
    """
    mirror_of(project.environment, home).fetch_built(reference)
    bundle = read_bundle(home, reference)
    base, config = base_of(bundle, project, home, on_progress), _settings_of(bundle)
    dataset = read_version(home, str(bundle.dataset_version))
    before = unpack_adapter(bundle, home)
    scratch = home.absolute() / "rebuilds" / short(bundle.digest)
    made = train(dataset, base, config, bundle.system_prompt, scratch, on_progress, bundle.chat_template_kwargs)
    files = compare_files(bundle.adapter.files if bundle.adapter else {}, made.adapter.files)
    comparison = AdapterDifference(files=files)
    if WEIGHTS in files:
        first, second = _tensors(before / WEIGHTS), _tensors(made.folder / WEIGHTS)
        comparison = AdapterDifference(files=files, tensors=compare_tensors(first, second), compared=len(first))
    changed = _changed(home, bundle, trainer(config))
    found = Rebuilt(
        bundle=bundle.digest,
        adapter=made.adapter.digest,
        comparison=comparison,
        changed=changed,
        seconds=made.seconds,
    )
    remove_whole(scratch)
    return found


def _settings_of(bundle: Bundle) -> TrainingConfig:
    if bundle.adapter is None or bundle.training is None or bundle.dataset_version is None:
        what = f"bundle {short(bundle.digest)} was not trained: it is the base model with a prompt"
        raise SlipwayError(what, cure="name a bundle with an adapter: slipway bundles")
    return TrainingConfig.model_validate(bundle.training)


def base_of(bundle: Bundle, project: Project, home: Path, on_progress: Progress) -> Path:
    """The bundle's base model. Raises SlipwayError where the project names another one."""
    base = prepare_model(project.model, home, on_progress)
    found = model_revision(base)
    if found != bundle.base_revision:
        raise SlipwayError(
            f"bundle {short(bundle.digest)} was trained on another base model than {project.model.name} here",
            where=f"{project.folder}/model.yaml: revision {found}, the bundle has {bundle.base_revision}",
            cure="name the project whose model.yaml names that base model: --project FOLDER",
        )
    return base


def _tensors(path: Path) -> Tensors:
    from safetensors.torch import load_file

    return {name: tensor.float().numpy() for name, tensor in load_file(path).items()}


def _changed(home: Path, bundle: Bundle, now: dict[str, Any]) -> tuple[str, ...] | None:
    _, documents = read_documents(home, bundle.digest)
    if PROVENANCE not in documents:
        return None
    predicate = json.loads(documents[PROVENANCE])["predicate"]
    code = predicate["buildDefinition"]["internalParameters"]["code"]
    versions = predicate["runDetails"]["builder"]["version"]
    if not code:
        return None
    found = [f"{name} was another file" for name, digest in sorted(now["code"].items()) if code.get(name) != digest]
    for name, version in sorted(now["versions"].items()):
        if versions.get(name) != version:
            found.append(f"{name} {versions.get(name, 'unknown')} then, {version} now")
    return tuple(found)
