"""Own data, from a folder of videos to a prediction: `python examples/own_data.py [VIDEOS] [FOLDER]`.

VIDEOS has a folder for each class, as in videos/wave/a.mp4 and videos/clap/b.mp4; without it, the bundled clips.
The model is tiny and trains for a few steps only: drop the settings for the recipe's own, and give it some hours.
"""

import sys
from pathlib import Path

import everest

data = sys.argv[1] if len(sys.argv) > 1 else "bundled"
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "own-data")

manifest = everest.load_data(data)
print(manifest)

small = ["model.size=tiny", "clip.num_frames=8", "clip.height=64", "clip.width=64", "optim.warmup_epochs=0"]

# Labels are not looked at. What fine-tuning will be tested on is left out.
everest.pretrain(recipe="own", data=data, out=folder / "pretrained", settings=[*small, "optim.epochs=2"])

# A classifier that starts from it. The same call goes on where an earlier one was stopped.
run = everest.finetune(
    recipe="own",
    data=data,
    out=folder / "classifier",
    init=folder / "pretrained",
    settings=[*small, "optim.epochs=3"],
)
print(run.evaluation.summary() if run.evaluation else "no video was held out to test on")

# What it says of a video, and of each second of it.
model = everest.load(folder / "classifier", device="cpu")
video = manifest.records[-1].path
print(model.predict(video))
for part in model.timeline(video, everest.Windows(window_seconds=1)).segments():
    print(f"{part.start_seconds:5.1f} s to {part.end_seconds:5.1f} s: {part.name} ({part.probability:.0%})")
