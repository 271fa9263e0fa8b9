"""Where the time of one row goes: `toolchain score` on a file of one row, step by step, each as a process of its own.

    python benchmarks/startup.py [--bundle bundle] [--rounds 7] [--beside PATH] [--data PATH/aclImdb --rows 5000]

A step's share is what it takes beyond the steps above it. Processor time, the least of the rounds, in turns: on a
machine that is shared the clock says little. `--beside` is another checkout of the project, of which the whole is
measured in the same turns. With `--data` a file of so many rows is scored as well, and the last line says which share
of that process is not the model.
"""

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from toolchain.corpus.reviews import Source, read_texts
from toolchain.judging.bench import different_texts

ROOT = Path(__file__).parents[1]
OPEN = "from toolchain.scoring.scorer import Scorer; Scorer({bundle}, 'cpu')"
STEPS = {
    "Python": "pass",
    "numpy": "import numpy",
    "ONNX Runtime": "import numpy, onnxruntime",
    "the command line": "import numpy, onnxruntime, toolchain.cli.app, toolchain.cli.score",
    "reading and scoring": "import numpy, onnxruntime, toolchain.cli.app, toolchain.cli.score, toolchain.scoring.job",
    "the session, checked": "import numpy, onnxruntime, toolchain.cli.app, toolchain.cli.score, toolchain.scoring.job; "
    + OPEN,
}
SHARE = """
import atexit, time
from toolchain.scoring import scorer
spent, run = [], scorer.run_text
def run_text(*given):
    start = time.thread_time()
    answers = run(*given)
    spent.append(time.thread_time() - start)
    return answers
scorer.run_text = run_text
atexit.register(lambda: print(sum(spent), time.process_time()))
from toolchain.cli.app import app
app()
"""
"""`toolchain`, which prints at its end the seconds of processor time of the model, and all of them."""
AS_THE_COMMAND = {"OPENBLAS_NUM_THREADS": "1"}
"""What `toolchain score` says before it loads numpy."""
WHOLE, FIRST, BESIDE = "the row, all in all", "the same, without kept tables", "the other checkout"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="default: the model in the box")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--data", help="reviews, such as PATH/aclImdb")
    parser.add_argument("--rows", type=int, default=5000)
    arguments = parser.parse_args()
    bundle = arguments.bundle and arguments.bundle.absolute()
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        (room / "one.csv").write_text("text\nI did not expect to like this film and I did.\n", encoding="utf-8")
        score = ["-m", "toolchain", "score", str(room / "one.csv"), *(["--bundle", str(bundle)] if bundle else [])]
        programs = {
            step: ["-c", code.format(bundle=repr(str(bundle)) if bundle else None)] for step, code in STEPS.items()
        }
        programs |= {WHOLE: score, FIRST: score}
        if arguments.beside:
            programs[BESIDE] = score
        seconds: dict[str, list[tuple[float, float]]] = {step: [] for step in programs}
        for number in range(arguments.rounds + 1):  # the first fills the caches
            for step, program in programs.items():
                tree = arguments.beside.absolute() if step == BESIDE else ROOT
                out, cache = room / f"{number} {step}.csv", room / ("none" if step == FIRST else "cache")
                command = [*program, *(["-o", str(out)] if program is score else [])]
                variables = AS_THE_COMMAND if step in STEPS else {}
                took = run(command, room, {"PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(cache), **variables})
                subprocess.run(["rm", "-rf", str(room / "none")], check=True)
                if number:
                    seconds[step].append(took)
        show(seconds)
        if arguments.data:
            texts = different_texts(read_texts(Source(arguments.data)), arguments.rows)
            print(outside_the_model(texts, score[4:], room))


def outside_the_model(texts: list[str], options: list[str], room: Path) -> str:
    """Score a file of these texts with these options of `score` -> where the processor time went, in a line."""
    with (room / "many.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    command = ["-c", SHARE, "score", str(room / "many.csv"), *options, "-o", str(room / "out.csv"), "--quiet"]
    environment = {**os.environ, **AS_THE_COMMAND, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(room / "cache")}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=True)
    model, whole = map(float, done.stdout.split())
    return f"{len(texts):,} rows: {whole:.2f} s, of which {1 - model / whole:.1%} is not the model"


def run(command: list[str], room: Path, variables: dict[str, str]) -> tuple[float, float]:
    """Seconds of processor time and of the clock that a process took, which has to succeed; with kept bytecode."""
    environment = {**os.environ, **variables}
    environment["PYTHONPYCACHEPREFIX"] = str(room / "bytecode" / variables["PYTHONPATH"].strip("/"))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=room, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def show(seconds: dict[str, list[tuple[float, float]]]) -> None:
    """The shares of one row, and what the whole takes."""
    least = {step: min(processor for processor, _ in took) for step, took in seconds.items()}
    before = 0.0
    for step in [*STEPS, WHOLE]:
        added = least[step] - before
        title = "the row itself" if step == WHOLE else step
        print(f"{title:30} {added * 1000:6.0f} ms  {added / least[WHOLE]:4.0%}")
        before = least[step]
    for step in [each for each in (WHOLE, FIRST, BESIDE) if each in seconds]:
        walls = sorted(wall for _, wall in seconds[step])
        clock = f"by the clock {walls[0]:.2f} s at least, {walls[len(walls) // 2]:.2f} s in the middle"
        print(f"{step:30} {least[step] * 1000:6.0f} ms  {least[step] / least[WHOLE]:4.2f} x; {clock}")


if __name__ == "__main__":
    main()
