"""All documents of a bundle, by the names that they have in its image."""

from configs.canonical import short
from delivery.build.bundle import Bundle
from delivery.build.comparison import ReportBasis
from delivery.build.documents.bill import bill
from delivery.build.documents.model_card import model_card
from delivery.build.documents.origin import (
    BILL,
    EVAL_REPORT,
    LICENSES,
    MODEL_CARD,
    PAGE,
    PROVENANCE,
    DocumentBasis,
    Licenses,
    json_file,
)
from delivery.build.documents.page import page
from delivery.build.documents.provenance import provenance


def documents(bundle: Bundle, origin: DocumentBasis, comparison: ReportBasis | None = None) -> dict[str, bytes]:
    """Name -> content; the same arguments give the same bytes. Without evals there is no report, and without somebody
    to compare with no page of them.
    """
    written = {
        MODEL_CARD: model_card(bundle, origin),
        BILL: bill(bundle, origin),
        LICENSES: _licenses(bundle, origin.licenses),
        PROVENANCE: provenance(bundle, origin),
    }
    if origin.report is not None:
        written[EVAL_REPORT] = json_file(origin.report.model_dump(mode="json"))
        if comparison is not None:
            written[PAGE] = page(bundle, origin, origin.report, comparison)
    return written


def _licenses(bundle: Bundle, said: Licenses) -> bytes:
    rows = [("base model", f"{bundle.base_model} ({short(bundle.base_revision)})", said.base_model, "model.yaml")]
    if bundle.trained is not None:
        version = short(bundle.dataset_version or "unknown")
        rows.append(("training data", f"dataset {version}", said.data, "dataset.yaml"))
        what = "merged model" if bundle.merged else "adapter"
        rows.append((what, short(bundle.trained.digest), said.adapter, "project.yaml"))
    lines = [
        f"# Licences of bundle {bundle.digest}",
        "",
        "Each is what the project's files say. Unknown means that nobody said it; it does not mean that there is none.",
        "",
        "| what | which | licence (SPDX) | said in |",
        "| --- | --- | --- | --- |",
        *(f"| {what} | {which} | {spdx or 'unknown'} | `{file}: license` |" for what, which, spdx, file in rows),
    ]
    return ("\n".join(lines) + "\n").encode()
