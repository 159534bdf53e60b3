"""What `slipway show` prints of a bundle: what it is made of, and what lies inside its image."""

from collections.abc import Mapping
from pathlib import Path

from configs.canonical import short
from delivery.build.bundle import Bundle
from delivery.clients.bundles.layout import image_digest

EXPLAINED = {
    "README.md": "model card",
    "eval-report.json": "eval report, with every answer",
    "report.html": "the same to read in a browser, beside production",
    "bom.cdx.json": "bill of materials, CycloneDX",
    "LICENSES.md": "licences of base model, data and adapter",
    "provenance.intoto.json": "provenance, in-toto with SLSA's predicate",
}


def render(bundle: Bundle, layout: Path, documents: Mapping[str, bytes]) -> str:
    """For people."""
    adapter = bundle.adapter
    what = "none: it is the base model" if adapter is None else f"{adapter.digest}, rank {adapter.rank}"
    if bundle.merged is not None:
        what = f"merged into the weights, {bundle.merged.digest}, from bundle {short(bundle.parent or '')}"
    scores = [f"{n} {s.score:.2f} (n={s.n})" for n, s in bundle.evals.items() if s.score is not None]
    lines = [
        f"bundle      {bundle.digest}",
        f"route       {bundle.route}",
        f"base model  {bundle.base_model} at {bundle.base_revision}",
        f"adapter     {what}",
        f"dataset     {bundle.dataset_version or 'none'}",
        f"evals       {', '.join(scores) or 'none of its own'}",
        f"image       {layout}",
        f"            {image_digest(layout)}",
    ]
    if not documents:
        return "\n".join([*lines, "documents   none: this bundle was made before bundles had any"])
    for name, content in sorted(documents.items()):
        label = "documents " if name == min(documents) else ""
        lines.append(f"{label:12}/models/{name:24} {len(content):>9,} bytes  {EXPLAINED[name]}")
    return "\n".join([*lines, f"one of them: slipway show {short(bundle.digest)} README.md"])
