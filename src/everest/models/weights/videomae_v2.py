"""Checkpoints of VideoMAE V2.

Its own files have VideoMAE's keys (pre-trained under ``model``, fine-tuned and distilled ones under ``module``) and are
told apart only by arguments of its dual masking, where there are some. The models on the Hugging Face hub are encoders
with ``model.`` before every key, and have their sizes in ``config.json`` under ``model_config``.
"""

from dataclasses import replace

from everest.errors import WeightsError
from everest.models.weights.adapter import Adapter, Renamed, part_of, tidy_attention, whole
from everest.models.weights.files import Raw
from everest.models.weights.videomae import V2_MARKS, V2_TYPE, facts_of_args, from_release

_PREFIX = "model."


def recognise(raw: Raw) -> str | None:
    """Know it by its own config, the prefix of the hub's files, or the arguments of dual masking."""
    if str(raw.config.get("model_type", "")).startswith(V2_TYPE):
        return f"its config.json says model_type {raw.config['model_type']}"
    if f"{_PREFIX}patch_embed.proj.weight" in raw.tensors:
        return f"has {_PREFIX}patch_embed.proj.weight"
    if any(mark in raw.args for mark in V2_MARKS) and any(k.endswith("patch_embed.proj.weight") for k in raw.tensors):
        return f"its arguments have {next(mark for mark in V2_MARKS if mark in raw.args)}"
    return None


def read(raw: Raw) -> Renamed:
    """Rename a checkpoint; an encoder of the hub has the norm of a classifier, and no head."""
    config = raw.config.get("model_config")
    config = config if isinstance(config, dict) else {}
    if config.get("cos_attn") is True or config.get("use_learnable_pos_emb") is True:
        raise WeightsError(f"{raw.path}: has cosine attention or learnt positions, which our encoder has not")
    renamed = from_release({key.removeprefix(_PREFIX): value for key, value in raw.tensors.items()})
    state, unused, notes = tidy_attention(renamed)
    facts = facts_of_args(raw, state.pop("encoder.pos_embed", None))
    side = whole(config, "img_size")
    facts = replace(
        facts,
        num_frames=facts.num_frames or whole(config, "num_frames"),
        height=facts.height or side,
        width=facts.width or side,
        num_heads=whole(config, "num_heads"),
    )
    return Renamed(part_of(state), state, unused=unused, notes=notes, facts=facts)


ADAPTER = Adapter("videomae-v2", "VideoMAE V2", recognise, read)
