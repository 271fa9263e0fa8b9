"""The model card: what a person who finds a bundle has to know."""

from collections.abc import Mapping, Sequence
from typing import Any

from export.spec import Specification
from toolchain.measures.drift import Reference, describe
from toolchain.measures.standing import BASELINE, Folds, Standing

_FORMS = {
    "model.onnx": "raw text in, label and probabilities out; any language with ONNX Runtime, every provider",
    "model.cpu.onnx": "the same, laid out for batch scoring on the CPU provider",
    "model.int8.onnx": "the same in whole numbers: nearly the same answers; faster where there is VNNI",
    "model.explain.onnx": "the same answers, and the share of every word in them; see docs/explanations.md",
    "model.ids.onnx": "token ids in, logits out; for runtimes without string operators",
    "model.pt2": "torch.export; token ids in, logits out; Python with torch alone",
    "model.ts": "TorchScript; a list of texts in, labels and probabilities out; libtorch alone",
}

_CARD = """# Review classifier `{recipe}`

Labels: {labels}. Trained on {data} ({reviews}).

| | |
|---|---|
| test | loss {test_loss}, accuracy {test_accuracy} % |
| validation | loss {validation_loss}, accuracy {validation_accuracy} %, epoch {epoch} |
| architecture | {architecture} |
| vocabulary | {vocabulary:,} entries, `vocab.txt` |
| text | {text} |
{more}
## Files
{forms}

`manifest.json` lists every file with its SHA-256. `vectors.jsonl` holds texts with the answers PyTorch gives; an
embedding in any language is right when its probabilities are within {tolerance:g} of them.

## Use
```python
import numpy as np, onnxruntime as ort

session = ort.InferenceSession("{model}", providers=["CPUExecutionProvider"])
text = np.array(["I expected a dull film but got a lively one."], dtype=object)
label, probabilities = session.run(["label", "probabilities"], {{"text": text}})
```

## Limits
The model answers one of its labels for any text, in any language and on any subject; it knows only the kind of text it
was trained on. The output `unknown` counts the words it has never seen: many of them make an answer worthless.
"""


_TEXT_MODELS = ("model.onnx", "model.cpu.onnx")

_SHRUNK = """\
| shrunk | from {full:,} entries; in the ONNX files an embedding in bytes; the figures above are the full one's |
| agreement | {labels:.2%} of the labels of {texts:,} texts; largest change of a probability {difference:.4f} |
"""


def architecture(specification: Specification) -> str:
    """The layers on one line."""
    layers = (
        f"embedding {specification.embedding}",
        f"{specification.layers} × {specification.cell.upper()} {specification.hidden}"
        + (" with ReLU" if specification.nonlinearity == "relu" else ""),
        " + ".join(specification.pooling) + (" states" if len(specification.pooling) > 1 else " state"),
        *map(str, specification.head),
        f"{len(specification.labels)} logits",
    )
    bag = f", + words and {specification.bag:,} rows of word pairs" if specification.bag else ""
    return " → ".join(layers) + bag


def text_definition(specification: Specification) -> str:
    """What becomes of a text before the model sees it, on one line."""
    tokenizer = specification.tokenizer
    case = "A-Z lower-cased" if tokenizer.lowercase else "case kept"
    unit = "every character a token" if tokenizer.unit == "characters" else f"words, marks {tokenizer.punctuation}"
    return f"{case}, {unit}, at most {specification.max_tokens:,} tokens"


def model_card(
    specification: Specification, vocabulary_size: int, about: Mapping[str, Any], files: Sequence[str]
) -> str:
    """The bundle's `README.md`."""
    training = about["training"]
    rows = _training_rows(training)
    if reference := about.get("reference"):
        text = describe(Reference.from_json(reference, len(specification.labels)), specification)
        rows += f"| reference text | {text} |\n"
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
        architecture=architecture(specification),
        vocabulary=vocabulary_size,
        text=text_definition(specification),
        more=rows + (_shrunk_rows(about["shrunk"]) if "shrunk" in about else ""),
        model=next((file for file in _TEXT_MODELS if file in files), _TEXT_MODELS[0]),
        forms="\n".join(f"- `{file}`: {_FORMS[file]}" for file in files),
        tolerance=about["tolerance"],
    )


def speed_line(speed: Mapping[str, Any]) -> str:
    """How fast the test reviews were answered where the model was trained, on one line."""
    threads = f"{speed['threads']} {'thread' if speed['threads'] == 1 else 'threads'}"
    machine = f" of {speed['processor']}" if speed.get("processor") else ""  # snapshots before it was noted
    return (
        f"{speed['reviews_a_second']:,.0f} test reviews a second in PyTorch, {threads}{machine}; `toolchain bench` "
        "measures here"
    )


def trained_before(model: Mapping[str, Any]) -> str:
    """The trained model that a training started from, or that taught it, on one line."""
    reviews = f", {model['reviews']:,} reviews" if model.get("reviews") else ""
    known = f"{model.get('recipe') or 'imported'}, trained on {model.get('data') or 'data not recorded'}{reviews}"
    return f"{known}; SHA-256 of its weights {model['identity'][:12]}…"


def _training_rows(training: Mapping[str, Any]) -> str:
    """How to train it again, as far as the snapshot recorded it."""
    rows = []
    if values := training.get("standing"):
        standing = Standing.from_json(values)
        rows.append(f"| accuracy, 95 % interval | {standing.model} on {standing.reviews:,} {standing.part} reviews |\n")
        rows.append(f"| {BASELINE} | {standing.baseline}; counts {standing.features} |\n")
        rows.append(f"| always `{standing.majority_label}` | {standing.majority} |\n")
    if folds := training.get("folds"):
        rows.append(f"| cross-validation | {Folds(**folds)} |\n")
    if start := training.get("start"):
        rows.append(f"| started from | {trained_before(start)} |\n")
    rows += [f"| taught by | {trained_before(teacher)} |\n" for teacher in training.get("teachers", ())]
    if "parameters" in training:
        rows.append(f"| size | {training['parameters']:,} parameters |\n")
    if speed := training.get("speed"):
        rows.append(f"| speed | {speed_line(speed)} |\n")
    rows += [f"| warning | {warning} |\n" for warning in training.get("warnings", ())]
    if calibration := training.get("calibration"):
        test = calibration["test"]["after"]
        rows.append(
            f"| calibration | temperature {calibration['temperature']:.3f}; expected calibration error on the test "
            f"reviews {test['calibration_error']:.4f} |\n"
        )
    if settings := training.get("settings"):
        known = {name.replace("_", " "): value for name, value in settings.items() if value is not None}
        rows.append(f"| settings | {', '.join(f'{name} {value}' for name, value in known.items())} |\n")
    if versions := training.get("versions"):
        rows.append(f"| versions | {', '.join(f'{name} {version}' for name, version in versions.items())} |\n")
    if digest := training.get("training_digest"):
        rows.append(f"| training part | SHA-256 `{digest}` of its labels and tokens |\n")
    if restored := training.get("restored"):
        versions = ", ".join(f"{name} {version}" for name, version in restored["versions"].items())
        rows.append(
            f"| weights | read out of `{restored['file']}` of an earlier bundle (`{restored['bundle'][:12]}…`, "
            f"{versions}), without its snapshot: PyTorch's answers are those of a model rebuilt from them |\n"
        )
    return "".join(rows)


def _shrunk_rows(shrunk: Mapping[str, Any]) -> str:
    return _SHRUNK.format(
        full=shrunk["vocabulary"]["full"],
        labels=shrunk["label_agreement"],
        texts=shrunk["texts"],
        difference=shrunk["max_difference"],
    )
