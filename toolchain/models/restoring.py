"""A trained model from wherever one is kept: a snapshot, a bundle, or the model in the box."""

from pathlib import Path

import numpy as np
import torch

from export.bundle import MANIFEST, Bundle, open_bundle
from export.graph_weights import read_classifier, weights_file
from toolchain.errors import UsageError
from toolchain.models.classifiers import class_name, portable_name
from toolchain.models.snapshot import Snapshot, empty_model, load_snapshot
from toolchain.scoring.default import BOX, IN_THE_BOX


def load_trained(place: str) -> Snapshot:
    """The trained model at `place`: `box` (the model in the box), a bundle's folder, or a snapshot's folder or file.

    A folder that is called `box` is `./box`. Raises `UsageError` where nothing is there or a snapshot is damaged, and
    `export.bundle.InvalidBundle` where a bundle is damaged or holds no form with all weights.
    """
    path = BOX if place == IN_THE_BOX else Path(place)
    if not path.exists():
        raise UsageError(
            f"{place}: no snapshot here; make one: toolchain train --out {place}; or name a bundle, or {IN_THE_BOX}, "
            "the model that comes with the program"
        )
    return restore_snapshot(open_bundle(path)) if (path / MANIFEST).is_file() else load_snapshot(path)


def restore_snapshot(bundle: Bundle) -> Snapshot:
    """The bundle's weights as a snapshot: its specification, its vocabulary, and what it says of its training.

    That is the manifest's `training` with `reference` and `shrunk` beside it, as far as they are there (but the sizes
    of files, which another export changes), and `restored`: the identity of the bundle, the file that the weights were
    read from, and the versions that had exported it.
    The weights are those of `export.graph_weights.read_classifier`: from `model.onnx` they are exact. The model answers
    what the bundle answers, so a temperature is in its last layer, and the words that shrinking cut are gone.
    Raises `export.bundle.InvalidBundle` where they cannot be read, and `export.spec.InvalidClassifier` where no model
    of PyTorch's computes such a classifier.
    """
    classifier = read_classifier(bundle)
    specification = classifier.specification
    name = class_name(specification)
    model = empty_model(name, specification, len(classifier.vocabulary))
    state = {
        own: torch.from_numpy(np.array(classifier.weights[portable_name(own, model.portable_names)]))
        for own in model.state_dict()
    }
    known = {name: bundle.manifest[name] for name in ("reference", "shrunk") if name in bundle.manifest}
    if "shrunk" in known:
        known["shrunk"] = {name: value for name, value in known["shrunk"].items() if name != "bytes"}
    restored = {
        "bundle": bundle.identity,
        "file": weights_file(bundle),
        "versions": bundle.manifest.get("versions", {}),
    }
    training = {**bundle.manifest["training"], **known, "restored": restored}
    return Snapshot(name, specification, list(classifier.vocabulary), state, training, classifier.quantized_embedding)
