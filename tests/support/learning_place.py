"""A state folder with dataset versions, bundles that say they were trained on them, and what is live."""

import json
from dataclasses import replace

from places import ROOT
from release_fakes import PLAN, base_bundle, lora_bundle
from release_states import served

from configs.dataset import DatasetRecipe
from configs.project import load_project
from configs.training import LoraSettings, TrainingConfig
from delivery.clients.bundles.images import write_bundle
from delivery.release.decide import new_state
from delivery.release.state import Commit, Decision
from tasks.data.dataset import build_dataset
from tasks.release.parent import find_parent
from tasks.release.site import open_ledger

CONFIG = TrainingConfig(lora=LoraSettings(rank=8, alpha=16, target_modules=("q_proj",)), continue_from="live")
NOW = 2_000_000_000.0


class LearningPlace:
    """Below `folder`; rows are tokenised by `tokenizer_folder`."""

    def __init__(self, folder, tokenizer_folder):
        self.folder, self.home, self.tokenizer = folder, folder / "home", tokenizer_folder
        self.project = replace(load_project(ROOT / "configs" / "tutor"), training=CONFIG)
        self.made = 0

    def version(self, rows, **recipe):
        self.write_rows(rows)
        given = {"name": "sums", "sources": [{"path": "rows.jsonl"}], "split": {"holdout_share": 0.3}} | recipe
        return build_dataset(DatasetRecipe.model_validate(given), self.folder, self.tokenizer, "Be brief.", self.home)

    def write_rows(self, rows, first=0):
        """rows.jsonl, each of another user."""
        text = "".join(
            json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": f"What is {n} and 1?"},
                        {"role": "assistant", "content": f"What comes after {n}?"},
                    ],
                    "user": f"u{n}",
                }
            )
            + "\n"
            for n in range(first, first + rows)
        )
        (self.folder / "rows.jsonl").write_text(text)

    def bundle(self, version, parent=None, **changes):
        """One of another adapter each time."""
        self.made += 1
        bare = lora_bundle(self.home, seed=self.made)
        training = CONFIG.model_copy(update={"continue_from": parent.digest if parent else None} | changes)
        given = {"dataset_version": version.digest, "training": training.model_dump(mode="json")}
        made = bare.model_copy(update=given)
        write_bundle(made, self.home / f"made-{self.made}", self.home)
        return made

    def release(self, bundle):
        base, ledger = base_bundle(), open_ledger(self.project.environment, self.home)
        route, name = self.project.route, self.project.environment.name
        ledger.set_base(name, route, served(base), base, "me", NOW)
        ledger.acquire(name, "me", 30, NOW)
        live = ledger.route(name, route).live
        state = new_state(f"r{self.made}", name, route, served(bundle), live, NOW)
        ledger.begin(state, PLAN, bundle, "me", 30, NOW)
        over = state.model_copy(update={"phase": "live", "committed": True})
        actions = (Commit(live=state.candidate, previous=state.stable),)
        ledger.record(Decision(state=over, actions=actions, verdict="pass", reason="ok"), "me", 30, NOW)
        ledger.close()

    def find(self, version, said=None, **changes):
        project = replace(self.project, training=CONFIG.model_copy(update=changes))
        revision = base_bundle().base_revision
        told = [] if said is None else said
        return find_parent(project, version, revision, self.home, lambda done, total, text: told.append(text))
