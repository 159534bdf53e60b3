"""Which architectures carry a LoRA is read off vLLM's own sources, without importing them."""

from pathlib import Path

import pytest

from tasks.serving.vllm_models import carries_lora

SOURCES = {
    "registry.py": """
_TEXT = {
    "Plain": ("plain", "Plain"),
    "Marked": ("marked", "Marked"),
    "Child": ("child", "Child"),
    "Renamed": ("child", "Renamed"),
    "Package": ("vllm.models.packed", "Packed"),
    "Denies": ("marked", "Denies"),
    "Lost": ("nowhere", "Lost"),
}
""",
    "plain.py": "import torch.nn as nn\nclass Plain(nn.Module): ...\n",
    "marked.py": "from .interfaces import SupportsLoRA\nclass Marked(nn.Module, SupportsLoRA): ...\n"
    "class Denies(Marked):\n    supports_lora = False\n",
    "child.py": "from .marked import Marked as Base\nclass Child(Base): ...\nclass Renamed(Child): ...\n",
    "interfaces.py": "class SupportsLoRA: ...\n",
}


@pytest.fixture
def python(tmp_path):
    package = tmp_path / "lib" / "python3.11" / "site-packages" / "vllm"
    models = package / "model_executor" / "models"
    models.mkdir(parents=True)
    for name, text in SOURCES.items():
        (models / name).write_text(text)
    packed = package / "models" / "packed"
    packed.mkdir(parents=True)
    (packed / "__init__.py").write_text("from .inner import Packed\n")
    (packed / "inner.py").write_text(
        "from vllm.model_executor.models.marked import Marked\nclass Packed(Marked): ...\n"
    )
    return tmp_path / "bin" / "python"


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("Plain", False),
        ("Marked", True),
        ("Child", True),
        ("Renamed", True),
        ("Package", True),
        ("Denies", False),
        ("Lost", None),
        ("NotListed", None),
    ],
)
def test_a_class_carries_a_lora_if_it_inherits_vllms_mark(python, architecture, said):
    assert carries_lora(python, architecture) is said


def test_without_a_vllm_nothing_is_said(tmp_path):
    assert carries_lora(tmp_path / "bin" / "python", "Marked") is None


@pytest.mark.skipif(not Path(".venv-vllm/bin/python").exists(), reason="vLLM is not set up")
def test_the_vllm_at_hand_serves_loras_on_the_usual_families_and_not_on_gpt2():
    python = Path(".venv-vllm/bin/python").absolute()
    families = ("Llama", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "Mistral", "Phi3", "Granite", "Glm4Moe", "Cohere2")
    assert {name: carries_lora(python, f"{name}ForCausalLM") for name in families} == dict.fromkeys(families, True)
    assert carries_lora(python, "GPT2LMHeadModel") is False
