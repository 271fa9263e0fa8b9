"""Scoring side by side on the same rows and weights: PyTorch, plain onnxruntime, and ours; as models and as processes.

    python benchmarks/scoring.py [--snapshot snapshot] [--data PATH/aclImdb] [--rows 20000] [--rounds 2]

Model only: texts in memory to probabilities in memory. End to end: CSV file to CSV file as a whole process, start-up
included. Routes take turns; the figures are medians. Without a snapshot the model is a `gru` of the documented sizes
with weights by chance, which is as fast and knows nothing. Accuracy is that on the rows whose label is known.
"""

import argparse
import csv
import json
import operator
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import tfidf
import torch
from rich.console import Console
from rich.table import Table
from torchtext import data

from export.bundle import open_bundle
from toolchain.corpus.corpus import TextField
from toolchain.corpus.reviews import Source, read_texts_with_labels
from toolchain.judging.bench import Measurement, different_texts, measure
from toolchain.measures.processor import processor
from toolchain.models.classifiers import build_model
from toolchain.models.recipes import RECIPES
from toolchain.models.snapshot import Snapshot, load_snapshot, save_snapshot
from toolchain.release.release import export_snapshot
from toolchain.scoring.scorer import Scorer
from toolchain.training.loops import evaluate

HERE = Path(__file__).parent
LINEAR = "scikit-learn, TF-IDF"
DOCUMENTED_WORDS = 46_159
CHECKED = 200  # texts of the proof


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snapshot", type=Path, help="default: ./snapshot, or weights by chance where there is none")
    parser.add_argument("--data", default="sample")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    source = Source(arguments.data)
    known = dict(read_texts_with_labels(source))
    texts = different_texts(list(known), arguments.rows)
    messages = Console(stderr=True)
    named = arguments.snapshot or (Path("snapshot") if Path("snapshot").exists() else None)
    snapshot = load_snapshot(named) if named else by_chance(list(known))
    linear = tfidf.fitted(source)
    others = [
        ("PyTorch, documented", documented_evaluation(snapshot, texts)),
        (LINEAR, lambda: linear(texts)),
    ]
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        save_snapshot(snapshot, room / "snapshot")
        messages.print("exporting")
        export_snapshot(snapshot, room / "bundle", ["onnx"], texts[:CHECKED], precision="int8", force=True)
        bundle = open_bundle(room / "bundle")
        models = measure(bundle, texts, arguments.rounds, others, messages.print)
        rows = room / "reviews.csv"
        with rows.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "review", "label"])
            writer.writerows([number, text, ""] for number, text in enumerate(texts))
        processes = end_to_end(room / "snapshot", room / "bundle", rows, arguments.rounds, messages)
        accuracies = {LINEAR: accuracy(linear, known)}
        if named:
            for precision in ("fp32", "int8"):
                with Scorer(bundle, "cpu", precision=precision) as scorer:
                    accuracies[f"toolchain {precision}"] = accuracy(scorer.predict, known)
    show(models, processes, accuracies, str(named or "weights by chance"))
    if arguments.json:
        figures = {"processor": processor(), "model": models.to_json(), "process": processes, "accuracy": accuracies}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def by_chance(texts: list[str]) -> Snapshot:
    """The documented `gru` before its training, with the words of the texts and made-up ones beside them."""
    recipe = RECIPES["gru"]
    counted = Counter(word for text in texts for word in recipe.tokenizer.tokenize(text))
    words = [word for word, _ in counted.most_common(DOCUMENTED_WORDS - 2)]
    words += [f"madeup{number}" for number in range(DOCUMENTED_WORDS - 2 - len(words))]
    specification = recipe.specification(("neg", "pos"), 1)
    torch.manual_seed(0)
    state = build_model(recipe.model, specification, DOCUMENTED_WORDS, dropout=0.0).state_dict()
    return Snapshot(recipe.model, specification, ["<unk>", "<pad>", *words], state, {"recipe": "gru"})


def accuracy(label: Callable[[Sequence[str]], Sequence[str]], known: dict[str, str | None]) -> float | None:
    """The share of the texts with a known label that get it; None where none is known."""
    labelled = {text: truth for text, truth in known.items() if truth is not None}
    if not labelled:
        return None
    said = label(list(labelled))
    return sum(map(operator.eq, said, labelled.values())) / len(labelled)


def documented_evaluation(snapshot: Snapshot, texts: list[str]):  # type: ignore[no-untyped-def]
    """The documented `evaluate` over torchtext's batches of 64; reading and tokenizing are not timed."""
    text = TextField(snapshot.specification.tokenizer, snapshot.specification.max_tokens)
    label = data.Field(sequential=False, use_vocab=False)
    fields = [("text", text), ("label", label)]
    dataset = data.Dataset([data.Example.fromlist([each, 0], fields) for each in texts], fields)
    text.build_vocab([])
    text.vocab.itos = snapshot.vocabulary
    text.vocab.stoi.clear()
    text.vocab.stoi.update({word: index for index, word in enumerate(snapshot.vocabulary)})
    model = snapshot.build()
    key = {"sort_key": lambda example: len(example.text), "sort_within_batch": True}
    batches = data.BucketIterator(dataset, batch_size=64, train=False, device=torch.device("cpu"), **key)
    return lambda: evaluate(model, batches)


def end_to_end(
    snapshot: Path, bundle: Path, source: Path, rounds: int, messages: Console
) -> dict[str, dict[str, float]]:
    """Each route as a process, in turns: median seconds, rows a second, peak memory."""
    target = source.with_name("scored.csv")
    rows = sum(1 for _ in csv.reader(source.open(newline="", encoding="utf-8"))) - 1
    plain = [str(HERE / "plain_onnxruntime.py"), str(bundle / "model.onnx"), str(source), str(target)]
    score = ["-m", "toolchain", "score", str(source), "-o", str(target), "--bundle", str(bundle), "--provider", "cpu"]
    score += ["--no-resume", "--overwrite", "--quiet"]
    routes = {
        "PyTorch, documented": [str(HERE / "documented_route.py"), str(snapshot), str(source), str(target)],
        "onnxruntime, as they come": plain,
        "onnxruntime, sorted": [*plain, "--sorted"],
        "toolchain fp32": score,
        "toolchain int8": [*score, "--precision", "int8"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in routes}
    memory: dict[str, float] = {}
    for number in range(rounds):
        for name, command in routes.items():
            messages.print(f"round {number + 1} of {rounds}, process: {name}")
            took, peak = run_process([sys.executable, *command])
            seconds[name].append(took)
            memory[name] = max(peak, memory.get(name, 0.0))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        name: {"seconds": took, "rows_per_second": rows / took, "peak_mib": memory[name]}
        for name, took in medians.items()
    }


def run_process(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MiB of a process that has to succeed.

    The peak is the kernel's own high-water mark, looked up while the process runs: `ru_maxrss` would be the parent's.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=HERE.parent, env={**os.environ, "PYTHONPATH": str(HERE.parent)})
    peak = 0.0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            peak = int(found[1]) / 1024
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, peak


def show(
    models: Measurement, processes: dict[str, dict[str, float]], accuracies: dict[str, float | None], model: str
) -> None:
    """The table, and what the goals are stated in."""
    console = Console(width=120)
    console.print(f"{processor()}, {models.cores} cores; {models.rows:,} rows, {models.tokens:,} tokens; {model}")
    table = Table()
    columns = (
        "route",
        "model rows/s",
        "ktok/s",
        "of the limit",
        "end to end rows/s",
        "seconds",
        "peak MiB",
        "accuracy",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "route" else "right")
    for route in models.routes:
        recurrent = route.name != LINEAR
        process = processes.get(route.name)
        known = accuracies.get(route.name)
        table.add_row(
            route.name,
            f"{route.rows_per_second:,.0f}",
            f"{route.tokens_per_second / 1000:,.0f}" if recurrent else "",
            f"{route.share_of_limit:.0%}" if recurrent else "",
            *([f"{process['rows_per_second']:,.0f}", f"{process['seconds']:.1f}"] if process else ["", ""]),
            f"{process['peak_mib']:,.0f}" if process else "",
            f"{known:.2%}" if known is not None else "",
        )
    console.print(table)
    by_name = {route.name: route for route in models.routes}
    documented, fp32, int8 = (by_name[n] for n in ("PyTorch, documented", "toolchain fp32", "toolchain int8"))
    plain = max(processes[name]["rows_per_second"] for name in processes if name.startswith("onnxruntime"))
    whole = processes["toolchain fp32"]
    console.print(
        f"limit: {models.limit_tokens_per_second / 1000:,.0f} ktok/s at {models.gflop_per_second:.0f} GFLOP/s"
    )
    console.print(f"model, fp32: {documented.seconds / fp32.seconds:.2f} x documented PyTorch")
    console.print(f"model, int8: {documented.seconds / int8.seconds:.2f} x documented PyTorch")
    console.print(f"end to end, fp32: {whole['rows_per_second'] / plain:.2f} x the better plain onnxruntime")
    console.print(f"end to end, fp32: {1 - fp32.seconds / whole['seconds']:.1%} of the time is not the model")


if __name__ == "__main__":
    main()
