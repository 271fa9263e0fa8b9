"""The model card: what a person who finds a bundle has to know."""

from collections.abc import Mapping, Sequence
from typing import Any

from export.spec import Specification

_FORMS = {
    "model.onnx": "raw text in, label and probabilities out; any language with ONNX Runtime, every provider",
    "model.cpu.onnx": "the same, laid out for batch scoring on the CPU provider",
    "model.int8.onnx": "the same with integer products, faster and nearly the same; the drift stands in the manifest",
    "model.ids.onnx": "token ids in, logits out; for runtimes without string operators",
    "model.ts": "TorchScript; a list of texts in, labels and probabilities out; libtorch alone",
}

_CARD = """# Review classifier `{recipe}`

Labels: {labels}. Trained on {data} ({reviews}).

| | |
|---|---|
| test | loss {test_loss}, accuracy {test_accuracy} % |
| validation | loss {validation_loss}, accuracy {validation_accuracy} %, epoch {epoch} |
| architecture | embedding {embedding} → {layers} × {cell} {hidden} → {head}{classes} logits |
| vocabulary | {vocabulary:,} words, `vocab.txt` |
| text | {case}, marks {punctuation}, at most {max_tokens:,} tokens |

## Files
{forms}

`manifest.json` lists every file with its SHA-256. `vectors.jsonl` holds texts with the answers PyTorch gives; an
embedding in any language is right when its probabilities are within {tolerance:g} of them.

## Use
```python
import numpy as np, onnxruntime as ort

session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
text = np.array(["I expected a dull film but got a lively one."], dtype=object)
label, probabilities = session.run(["label", "probabilities"], {{"text": text}})
```

## Limits
The model answers one of its labels for any text, in any language and on any subject; it knows only the kind of text it
was trained on. The output `unknown` counts the words it has never seen: many of them make an answer worthless.
"""


def model_card(
    specification: Specification, vocabulary_size: int, about: Mapping[str, Any], files: Sequence[str]
) -> str:
    """The bundle's `README.md`."""
    training = about["training"]
    reviews = ", ".join(f"{count:,} {part}" for part, count in training.get("reviews", {}).items())

    def figure(name: str, digits: int) -> str:
        return f"{training[name]:.{digits}f}" if isinstance(training.get(name), float) else "not measured"

    return _CARD.format(
        recipe=training.get("recipe", "imported"),
        labels=", ".join(f"`{label}`" for label in specification.labels),
        data=training.get("data", "data that is not recorded"),
        reviews=reviews or "sizes not recorded",
        test_loss=figure("test_loss", 3),
        test_accuracy=figure("test_accuracy", 2),
        validation_loss=figure("validation_loss", 3),
        validation_accuracy=figure("validation_accuracy", 2),
        epoch=training.get("epoch", "not recorded"),
        embedding=specification.embedding,
        layers=specification.layers,
        cell=specification.cell.upper(),
        hidden=specification.hidden,
        head="".join(f"{width} → " for width in specification.head),
        classes=len(specification.labels),
        vocabulary=vocabulary_size,
        case="A-Z lower-cased" if specification.tokenizer.lowercase else "case kept",
        punctuation=specification.tokenizer.punctuation,
        max_tokens=specification.max_tokens,
        forms="\n".join(f"- `{file}`: {_FORMS[file]}" for file in files),
        tolerance=about["tolerance"],
    )
