"""Pre-trained checkpoints of Masked Motion Encoding (MME).

The encoder has VideoMAE's keys. The decoder is in a list of one, and has two heads: see :data:`DECODER_KEYS`.
Fine-tuned checkpoints are DeepSpeed's, with VideoMAE's keys: the adapter ``videomae`` reads them.
"""

from everest.models.weights.adapter import Adapter, Renamed, tidy_attention
from everest.models.weights.files import Raw
from everest.models.weights.videomae import facts_of_args

DECODER_KEYS = {
    "mask_token": "mask_token",  # [1, 1, E]
    "encoder_to_decoder.0.": "encoder_to_decoder.0.",  # weight [E, D], no bias
    "decoder.0.blocks.": "decoder.0.blocks.",
    "decoder.0.norm.": "decoder.0.norm.",
    "decoder.0.head.0.": "decoder.0.head.0.",  # histograms: 0 and 2 are linear maps, [512, E] and [108, 512]
    "decoder.0.head.1.": "decoder.0.head.1.",  # trajectories: the same with [32, 512]
}
"""Beginnings of the decoder's keys in MME's files, and ours."""


def recognise(raw: Raw) -> str | None:
    """Know it by the decoder in a list of one."""
    mark = next((key for key in raw.tensors if key.startswith(("encoder_to_decoder.0.", "decoder.0."))), None)
    return None if mark is None else f"has {mark}"


def read(raw: Raw) -> Renamed:
    """Rename a checkpoint; a key that nobody knows stays as it is, and loading says so."""
    state = {}
    for key, value in raw.tensors.items():
        theirs = next((theirs for theirs in DECODER_KEYS if key.startswith(theirs)), "")
        state[DECODER_KEYS.get(theirs, "") + key.removeprefix(theirs)] = value
    state, unused, notes = tidy_attention(state)
    facts = facts_of_args(raw, state.pop("encoder.pos_embed", None))
    return Renamed("pretrain", state, "mme", unused, notes, facts)


ADAPTER = Adapter("mme", "MME, pre-trained", recognise, read)
