"""A folder of files, or several names, are one batch: what is wrong with one of them costs that one alone."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from toolchain.cli.app import app
from toolchain.errors import UsageError
from toolchain.files.inputs import expand, output_paths

GOOD = "text,label\nfine lovely w1,pos\ndull awful w2,neg\n"

Run = Callable[..., Result]


@pytest.fixture
def run(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`toolchain score` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def score(*arguments: str) -> Result:
        command = ["score", *arguments, "--bundle", str(tiny_bundle)]
        return CliRunner().invoke(app, command, env={"COLUMNS": "500"})

    return score


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good files, and five that are not: empty, broken, without a text column, hidden."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(GOOD, encoding="utf-8")
    (folder / "empty.csv").write_bytes(b"")
    (folder / "broken.csv.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03KLJN")
    (folder / "numbers.csv").write_text("id,stars\n1,5\n", encoding="utf-8")
    (folder / "z.jsonl").write_text('{"text": "superb"}\n', encoding="utf-8")
    (folder / "._a.csv").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
    (folder / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
    return folder


def errors(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("error:")]


@pytest.mark.parametrize("named", ["the folder", "a pattern", "one by one"])
def test_the_good_files_are_scored_and_the_bad_ones_named(named: str, run: Run, folder: Path, tmp_path: Path) -> None:
    names = ["a.csv", "broken.csv.gz", "empty.csv", "numbers.csv", "z.jsonl"]
    inputs = {"the folder": ["in"], "a pattern": ["in/*"], "one by one": [f"in/{name}" for name in names]}[named]
    result = run(*inputs, "-o", "out/", "--json", "--summary", "summary.json")
    assert result.exit_code == 1
    written = {path.name.removesuffix(".meta.json") for path in (tmp_path / "out").iterdir()}
    assert written == {"a.scored.csv", "z.scored.jsonl"}
    *each, last = errors(result)
    assert len(each) == 3
    assert last == "error: 3 of 5 inputs failed: in/broken.csv.gz, in/empty.csv, in/numbers.csv"
    entries: list[dict[str, Any]] = json.loads(result.stdout)
    assert entries == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert [Path(entry["input"]).name for entry in entries] == names
    assert [entry["scored"] for entry in entries] == [2, 0, 0, 0, 1]
    assert [entry["output"] is None for entry in entries] == [False, True, True, True, False]
    assert [entry["error"] is None for entry in entries] == [True, False, False, False, True]
    for entry, line in zip(entries[1:4], each, strict=True):
        assert line == f"error: {entry['error']}"
        assert entry["input"] in entry["error"]


def test_a_name_that_is_not_there_ends_no_batch(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(GOOD, encoding="utf-8")
    result = run("missing.csv", "a.csv")
    assert result.exit_code == 1
    assert (tmp_path / "a.scored.csv").exists()
    assert errors(result) == [
        "error: missing.csv: No such file or directory",
        "error: 1 of 2 inputs failed: missing.csv",
    ]


def test_an_input_alone_ends_with_its_own_error(run: Run, tmp_path: Path) -> None:
    result = run("missing.csv", "--json")
    assert result.exit_code == 2
    assert errors(result) == ["error: missing.csv: No such file or directory"]
    (entry,) = json.loads(result.stdout)
    assert (entry["input"], entry["output"], entry["error"]) == (
        "missing.csv",
        None,
        "missing.csv: No such file or directory",
    )


def test_a_failed_check_stands_in_the_summary(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(GOOD, encoding="utf-8")
    (tmp_path / "b.csv").write_text("text\n" + "fine\n" * 4 + "' '\n".replace("'", '"') * 6, encoding="utf-8")
    result = run("a.csv", "b.csv", "--json")
    assert result.exit_code == 1
    good, bad = json.loads(result.stdout)
    assert (good["error"], bad["scored"], bad["output"]) == (None, 4, "b.scored.csv")
    assert "6 of 10 rows rejected (60.0%)" in bad["error"]


def test_a_dry_run_shows_the_others_as_well(run: Run, folder: Path) -> None:
    result = run("in", "--dry-run", "--json")
    assert result.exit_code == 1
    entries = json.loads(result.stdout)
    assert [Path(entry["input"]).name for entry in entries if "error" in entry] == [
        "broken.csv.gz",
        "empty.csv",
        "numbers.csv",
    ]
    assert errors(result)[-1].startswith("error: 3 of 5 inputs failed: ")


def test_hidden_files_are_no_inputs_unless_they_are_named(folder: Path) -> None:
    names = [Path(name).name for name in expand([str(folder)])]
    assert names == ["a.csv", "broken.csv.gz", "empty.csv", "numbers.csv", "z.jsonl"]
    assert expand([str(folder / "._a.csv")]) == [str(folder / "._a.csv")]


def test_a_folder_of_hidden_files_alone_has_no_input(folder: Path) -> None:
    for path in folder.iterdir():
        if not path.name.startswith("."):
            path.unlink()
    with pytest.raises(UsageError, match="no file to score in it"):
        expand([str(folder)])


@pytest.mark.parametrize(
    ("sources", "out", "outputs"),
    [
        (["d1/r.csv", "d2/r.csv"], "out/", ["out/d1/r.scored.csv", "out/d2/r.scored.csv"]),
        (["d1/r.csv", "d2/r.csv"], None, ["d1/r.scored.csv", "d2/r.scored.csv"]),
        (["d/r.csv", "d/s.csv.gz"], "out", ["out/r.scored.csv", "out/s.scored.csv.gz"]),
        (["d/r.csv", "d/e/r.csv"], "out", ["out/r.scored.csv", "out/e/r.scored.csv"]),
        (["/x/d1/r.csv", "/x/d2/r.csv"], "out", ["out/d1/r.scored.csv", "out/d2/r.scored.csv"]),
        (["../d1/r.csv", "./d2/r.csv", "d2/../d3/r.csv"], "out", None),
        (["s3://b/d1/r.csv", "s3://b/d2/r.csv"], "s3://o/x/", ["s3://o/x/d1/r.scored.csv", "s3://o/x/d2/r.scored.csv"]),
        (["s3://b/r.csv", "s3://c/r.csv"], "out", ["out/b/r.scored.csv", "out/c/r.scored.csv"]),
        (["r.csv"], "out.csv", ["out.csv"]),
    ],
)
def test_an_output_folder_keeps_the_folders_of_the_inputs(
    sources: Sequence[str], out: str | None, outputs: list[str] | None
) -> None:
    found = output_paths(sources, out, many=len(sources) > 1)
    if outputs is None:
        assert len(set(found)) == len(sources)
        assert not any(".." in name for name in found)
    else:
        assert found == outputs


@pytest.mark.parametrize("out", ["out.csv", "a/out.JSONL", "out.csv.gz", "out.gz", "out.parquet"])
def test_several_inputs_do_not_go_to_a_file(out: str, tmp_path: Path) -> None:
    """A folder of that name was made before. Where there is one already, or the slash says so, it is meant."""
    with pytest.raises(UsageError, match=rf"--out {out}: the name of a file, and .* --out scored/"):
        output_paths(["r.csv"], out, many=True)
    assert output_paths(["r.csv"], f"{out}/", many=True) == [f"{out}/r.scored.csv"]
    (tmp_path / out).mkdir(parents=True)
    assert output_paths(["r.csv"], f"{tmp_path}/{out}", many=True) == [f"{tmp_path}/{out}/r.scored.csv"]


def test_the_command_keeps_the_folders(run: Run, tmp_path: Path) -> None:
    for name in ("d1", "d2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "r.csv").write_text(GOOD, encoding="utf-8")
    result = run("d1/r.csv", "d2/r.csv", "-o", "out/")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out/d1/r.scored.csv").read_bytes() == (tmp_path / "out/d2/r.scored.csv").read_bytes()


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("in.csv", "out.jsonl"),
        ("in.csv", "out.ndjson.gz"),
        ("in.csv", "out.parquet"),
        ("in.csv", "out.tsv"),
        ("in.jsonl", "out.csv"),
        ("in.jsonl", "out.parquet"),
        ("in.tsv", "out.json"),
    ],
)
def test_no_format_is_written_under_the_name_of_another(source: str, out: str, run: Run, tmp_path: Path) -> None:
    texts = {"in.csv": GOOD, "in.tsv": GOOD.replace(",", "\t"), "in.jsonl": '{"text": "superb"}\n'}
    (tmp_path / source).write_text(texts[source], encoding="utf-8")
    result = run(source, "-o", out)
    assert result.exit_code == 2
    assert len(errors(result)) == 1
    assert errors(result)[0].startswith(f"error: {source}: is scored into ")
    assert f", not {out}; name an output that ends in {Path(source).suffix}: " in errors(result)[0]
    assert [path.name for path in tmp_path.iterdir()] == [source]


@pytest.mark.parametrize("out", ["out.tsv", "out.csv", "out", "out.txt", "out.csv.gz"])
def test_what_a_name_says_or_leaves_open_is_written(out: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text(GOOD.replace(",", "\t"), encoding="utf-8")
    result = run("in.tsv", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / out).exists()
