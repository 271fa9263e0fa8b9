"""A report is one about the model that scored the file, or none."""

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from export.bundle import MANIFEST, open_bundle
from toolchain.cli.app import app
from toolchain.errors import UsageError
from toolchain.files.outputs import record_path
from toolchain.report.report import write_report
from toolchain.scoring.batch import Outcome, write_summaries
from toolchain.scoring.default import BOX
from toolchain.scoring.job import Options, score_file
from toolchain.scoring.provenance import Provenance, read_provenance
from toolchain.scoring.scorer import Scorer

TEXTS = ["a fine film", "dull", "not bad at all", "a waste of time", "good", "well", "lovely and witty", "why"]
ROWS = b"id,text\n" + b"".join(f"{number},{text}\n".encode() for number, text in enumerate(TEXTS))


def copied(folder: Path, **about: Any) -> Path:
    """The model in the box under another identity."""
    shutil.copytree(BOX, folder)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **about}, indent=2), encoding="utf-8")
    return folder


def another(folder: Path) -> Path:
    """The same with its labels the other way round: another model."""
    copied(folder)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["specification"]["labels"].reverse()
    manifest["labels"].reverse()
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model/`, `other/`, and a file that `model/` has scored, with the summary. A test copies it."""
    folder = tmp_path_factory.mktemp("scored")
    model = copied(folder / "model", note="scores")
    another(folder / "other")
    (folder / "in.csv").write_bytes(ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with Scorer("model", "cpu", threads=1) as scorer:
            summary = score_file(scorer, "in.csv", "in.scored.csv", Options(probabilities=True))
            write_summaries([Outcome(summary)], "s.json")
            pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), "in.parquet")
            score_file(scorer, "in.parquet", "in.scored.parquet", Options())
    assert open_bundle(model).identity == scorer.identity
    return folder


@pytest.fixture
def place(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(scored, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.mark.parametrize("name", ["in.scored.csv", "in.scored.parquet"])
def test_what_made_a_file_stands_beside_it_or_in_it(name: str, place: Path) -> None:
    made_by = read_provenance(name)
    assert made_by is not None
    assert made_by.bundle == open_bundle(place / "model").identity
    assert (made_by.bundle_folder, made_by.model, made_by.provider) == ("model", "model.cpu.onnx", "cpu")
    assert {"toolchain", "python", "onnxruntime", "numpy"} <= made_by.versions.keys()
    assert made_by.options.get("--probabilities") == (True if name.endswith("csv") else None)
    source = name.replace(".scored", "")
    assert (made_by.input["name"], made_by.input["bytes"]) == (source, (place / source).stat().st_size)
    assert made_by.finished.endswith("Z")
    if name.endswith("csv"):
        (run,) = json.loads((place / "s.json").read_bytes())
        assert Provenance.from_json(run["made_by"]) == made_by


def test_the_input_is_known_by_a_digest_that_anybody_can_take(place: Path) -> None:
    made_by = read_provenance("in.scored.csv")
    assert made_by is not None
    assert made_by.input["sha256_of"] == "all"
    assert made_by.input["sha256"] == hashlib.sha256(ROWS).hexdigest()


def test_of_a_large_input_the_edges_are_digested_and_of_a_pipe_all(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = b"1," + b"x" * 1_000_000 + b"\n"
    large = b"id,text\n" + row + row + row
    (place / "large.csv").write_bytes(large)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ROWS)))
    with Scorer("model", "cpu", threads=1) as scorer:
        score_file(scorer, "large.csv", "large.scored.csv", Options(keep=("id",)))
        score_file(scorer, "-", "piped.csv", Options())
    inputs = [made_by.input for name in ("large.scored.csv", "piped.csv") if (made_by := read_provenance(name))]
    edges = hashlib.sha256(large[: 1 << 20] + large[-(1 << 20) :]).hexdigest()
    assert (inputs[0]["sha256"], inputs[0]["sha256_of"], inputs[0]["bytes"]) == (edges, "edges", len(large))
    assert inputs[1] == {
        **{"name": "-", "bytes": len(ROWS)},
        **{"sha256": hashlib.sha256(ROWS).hexdigest(), "sha256_of": "all"},
    }


@pytest.mark.parametrize("name", ["in.scored.csv", "in.scored.parquet"])
def test_the_bundle_is_found_and_another_one_beside_it_is_not_taken(name: str, place: Path) -> None:
    """The case of the issue: `./bundle` is another model."""
    shutil.copytree("other", "bundle")
    survey = write_report(name, "report.html")
    assert survey.made_by is not None
    assert survey.doubt is None
    page = (place / "report.html").read_text(encoding="utf-8")
    digest = open_bundle(place / "model").identity
    assert digest in page.replace("<wbr>", "")
    assert "model.cpu.onnx on cpu" in page
    with pytest.raises(UsageError, match=rf"{name}: was scored by the bundle .* in model, not by other \(.*--bundle"):
        write_report(name, "report.html", Path("other"))
    shutil.move("model", "bundle2")
    with pytest.raises(
        UsageError, match=rf"{name}: was scored by the bundle .* no longer in model and not in \./bundle"
    ):
        write_report(name, "report.html")
    write_report(name, "report.html", Path("bundle2"))
    shutil.rmtree("bundle")
    shutil.move("bundle2", "bundle")
    assert write_report(name, "report.html").made_by is not None


def test_a_bundle_is_found_beside_the_file_from_another_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert write_report("place/in.scored.csv", "report.html").made_by is not None


def test_a_summary_speaks_for_a_file_without_a_record_and_must_be_of_its_run(place: Path) -> None:
    summary = place / "s.json"
    assert write_report("in.scored.csv", "report.html", None, summary).made_by is not None
    record_path(place / "in.scored.csv").unlink()
    shutil.copytree("other", "bundle")
    survey = write_report("in.scored.csv", "report.html", None, summary)
    assert survey.made_by is not None
    with pytest.raises(UsageError, match="was scored by the bundle"):
        write_report("in.scored.csv", "report.html", Path("other"), summary)

    with Scorer("model", "cpu", threads=1) as scorer:
        score_file(scorer, "in.csv", "in.scored.csv", Options(overwrite=True))
    with pytest.raises(UsageError, match=r"s\.json: is of another run than the one that wrote in\.scored\.csv"):
        write_report("in.scored.csv", "report.html", None, summary)


def test_without_a_record_rows_are_scored_anew(place: Path) -> None:
    file = place / "in.scored.csv"
    record_path(file).unlink()
    survey = write_report(str(file), "report.html", Path("model"))
    assert (survey.made_by, survey.doubt) == (None, None)
    with pytest.raises(
        UsageError, match=r"in\.scored\.csv: not of this model: other gives \d of 8 rows another answer, such as line"
    ):
        write_report(str(file), "report.html", Path("other"))
    file.write_bytes(file.read_bytes().replace(b"a fine film", b"an awful waste of a fine film"))
    survey = write_report(str(file), "report.html", Path("model"))
    assert survey.doubt is not None
    assert "gives 1 of 8 rows another answer. Were they changed since?" in survey.doubt
    assert survey.doubt in (place / "report.html").read_text(encoding="utf-8")


def test_without_a_record_and_text_there_is_doubt(place: Path) -> None:
    with Scorer("model", "cpu", threads=1) as scorer:
        score_file(scorer, "in.csv", "short.csv", Options(drop=("text",)))
    record_path(place / "short.csv").unlink()
    survey = write_report("short.csv", "report.html", Path("other"))
    assert (
        survey.doubt == "Nothing says which model scored this file, and other is a guess: it has no text to score anew."
    )


def test_a_file_that_was_changed_since_says_so(place: Path) -> None:
    file = place / "in.scored.csv"
    file.write_bytes(file.read_bytes() + file.read_bytes().splitlines(keepends=True)[-1])
    survey = write_report("in.scored.csv", "report.html")
    assert survey.made_by is not None
    assert survey.doubt == "The file has changed since it was scored."


def test_the_command_warns_and_replaces_no_page_of_somebodys(place: Path) -> None:
    file = place / "in.scored.csv"
    with file.open("ab") as opened:
        opened.write(file.read_bytes().splitlines(keepends=True)[-1])

    def run(*more: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["report", "in.scored.csv", *more])
        return done.exit_code, " ".join(done.stderr.split())

    for _ in range(2):
        status, said = run("-o", "pages/")
        assert status == 0, said
        assert "warning: The file has changed since it was scored." in said
    assert [path.name for path in (place / "pages").iterdir()] == ["report.html"]
    mine = place / "mine.html"
    mine.write_text("<html>mine</html>")
    status, said = run("-o", "mine.html")
    assert status == 2
    assert "mine.html: exists, and toolchain did not write it" in said
    assert mine.read_text() == "<html>mine</html>"
    assert run("-o", "mine.html", "--overwrite")[0] == 0
    for name in ("in.scored.csv", "s.json"):
        status, said = run("-o", name, "--summary", "s.json", "--overwrite")
        assert status == 2
        assert "is an input" in said
