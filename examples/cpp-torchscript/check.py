"""Exit 1 on the first vector that the program does not reproduce: python check.py build/classify BUNDLE [VECTORS]"""

import json
import subprocess
import sys
from pathlib import Path

program, bundle = sys.argv[1], Path(sys.argv[2])
path = Path(sys.argv[3]) if len(sys.argv) > 3 else bundle / "vectors.jsonl"
tolerance = json.loads((bundle / "manifest.json").read_bytes())["tolerance"]
vectors = [json.loads(line) for line in path.read_bytes().splitlines()]
texts = "".join(vector["text"] + "\0" for vector in vectors).encode()
done = subprocess.run([program, "-0", bundle / "model.ts"], input=texts, stdout=subprocess.PIPE)
answers = done.stdout.decode().splitlines()
if done.returncode or len(answers) != len(vectors) or not vectors:
    sys.exit(f"{program}: status {done.returncode}, {len(answers)} answers to the {len(vectors)} texts of {path}")

worst = 0.0
for number, (answer, vector) in enumerate(zip(answers, vectors, strict=True), start=1):
    label, *probabilities = answer.split("\t")
    pairs = zip(map(float, probabilities), vector["probabilities"], strict=True)
    difference = max(abs(ours - theirs) for ours, theirs in pairs)
    if label != vector["label"] or not difference <= tolerance:  # a NaN disagrees
        sys.exit(
            f"{path}, line {number}: {label} differs by {difference:.1e} from {vector['label']}, beyond {tolerance}"
        )
    worst = max(worst, difference)
print(f"{len(vectors)} vectors agree, the worst within {worst:.1e}")
