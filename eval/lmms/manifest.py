"""What the entry point `lmms_eval.models` registers; lmms-eval reads it while it is itself being imported."""

from lmms_eval.models.registry_v2 import ModelManifest


def manifests() -> list[ModelManifest]:
    """Our model, for `python -m lmms_eval --model credence`."""
    return [ModelManifest(model_id="credence", chat_class_path="eval.lmms.model.CredenceModel")]
