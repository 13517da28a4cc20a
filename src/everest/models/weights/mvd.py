"""Checkpoints of Masked Video Distillation (MVD).

Nothing has the prefix ``encoder.``, and the encoder's table of positions, a 3-D one, is saved. Pre-trained ones have
two decoders: see :data:`DECODER_KEYS`. Fine-tuned ones have VideoMAE's keys and the table.
"""

from everest.config import ObjectiveName
from everest.models.weights.adapter import TABLE_UNUSED, Adapter, Renamed, part_of, tidy_attention
from everest.models.weights.files import Raw
from everest.models.weights.videomae import facts_of_args

DECODER_KEYS = {
    key.format(teacher): key.format(teacher)
    for teacher in ("img", "vid")
    for key in (
        "mask_token_{}",  # [1, 1, D]
        "down_{}.",  # weight [D, D], bias
        "decoder_{}.",  # blocks, norm, head
    )
}
"""Beginnings of the decoders' keys in MVD's files, for the image and the video teacher, and ours."""
_ENCODER = ("patch_embed.", "blocks.", "norm.")
_TABLES = ("pos_embed_img", "pos_embed_vid")


def recognise(raw: Raw) -> str | None:
    """Know the pre-trained ones by the parts for their teachers, the fine-tuned ones by the saved positions."""
    mark = next((key for key in raw.tensors if key.startswith(tuple(DECODER_KEYS))), None)
    if mark is None and "pos_embed" in raw.tensors and "blocks.0.attn.qkv.weight" in raw.tensors:
        mark = "pos_embed beside blocks.0"
    return None if mark is None else f"has {mark}"


def read(raw: Raw) -> Renamed:
    """Rename a checkpoint; a key that nobody knows stays as it is, and loading says so."""
    state = {}
    unused = {}
    for key, value in raw.tensors.items():
        if key in _TABLES:
            unused[key] = TABLE_UNUSED
        elif key.startswith(_ENCODER):
            state[f"encoder.{key}"] = value
        elif key != "pos_embed":
            theirs = next((theirs for theirs in DECODER_KEYS if key.startswith(theirs)), "")
            state[DECODER_KEYS.get(theirs, "") + key.removeprefix(theirs)] = value
    state, dropped, notes = tidy_attention(state)
    part = part_of(state)
    facts = facts_of_args(raw, raw.tensors.get("pos_embed"))
    objective: ObjectiveName = "mvd" if part == "pretrain" else "pixels"
    return Renamed(part, state, objective, unused | dropped, notes, facts)


ADAPTER = Adapter("mvd", "MVD", recognise, read)
