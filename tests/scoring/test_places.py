"""Nothing is overwritten that `score` did not write, and what leads somewhere else is followed."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from toolchain.cli.app import app
from toolchain.errors import UsageError
from toolchain.files.inputs import output_path
from toolchain.files.outputs import record_path
from toolchain.scoring.batch import Outcome, write_summaries
from toolchain.scoring.default import BOX
from toolchain.scoring.job import Interrupted, Options, Summary, score_file
from toolchain.scoring.journal import UNPUBLISHED, Parts
from toolchain.scoring.places import check_places
from toolchain.scoring.scorer import Scorer

ROWS = b"id,text\n1,a fine film\n2,\n3,a dull one\n"
ANYTHING = Options(max_rejects=1)


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    with Scorer(BOX, "cpu", threads=1) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_bytes(ROWS)
    return path


def score(scorer: Scorer, source: Path, output: Path | str, **options: object) -> Summary:
    return score_file(scorer, str(source), str(output), Options(**options))  # type: ignore[arg-type]


# --- what is there already -------------------------------------------------------------------------------------------


def test_somebodys_file_is_refused_before_a_row_is_scored(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious.csv"
    precious.write_bytes(b"mine\n")
    with pytest.raises(UsageError, match=r"precious\.csv: exists, .* another place: -o, or replace it: --overwrite"):
        score(scorer, source, precious)
    assert precious.read_bytes() == b"mine\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "precious.csv"]
    score(scorer, source, precious, overwrite=True)
    assert precious.read_bytes().startswith(b"id,text,prediction")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_the_same_job_and_another_replace_what_score_wrote(suffix: str, scorer: Scorer, tmp_path: Path) -> None:
    source, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2], "text": ["a fine film", "dull"]}), source)
    else:
        source.write_bytes(ROWS)
        if suffix == ".csv.gz":
            import gzip

            source.write_bytes(gzip.compress(ROWS))
    for probabilities in (False, False, True):
        score(scorer, source, output, probabilities=probabilities)
    assert record_path(output).exists() == (suffix != ".parquet")


def test_an_output_that_somebody_has_edited_is_somebodys(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    score(scorer, source, output)
    output.write_bytes(output.read_bytes().replace(b"a fine film", b"a fine FILM"))
    with pytest.raises(UsageError, match=r"out\.csv: exists"):
        score(scorer, source, output)


def test_a_parquet_file_with_other_rows_or_columns_is_somebodys(scorer: Scorer, tmp_path: Path) -> None:
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2], "text": ["a fine film", "dull"]}), source)
    score(scorer, source, output)
    scored = pyarrow.parquet.read_table(output)
    for changed in (scored.slice(0, 1), scored.append_column("checked", pyarrow.array([True, True]))):
        pyarrow.parquet.write_table(changed, output)
        with pytest.raises(UsageError, match=r"out\.parquet: exists"):
            score(scorer, source, output)


def test_somebodys_rejects_and_record_are_refused_as_well(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    for name in ("out.csv.rejected.jsonl", "out.csv.meta.json"):
        (tmp_path / name).write_text('{"mine": 1}\n')
        with pytest.raises(UsageError, match=rf"{name}: exists"):
            score(scorer, source, tmp_path / "out.csv")
        (tmp_path / name).unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_rejects_are_known_without_a_record(
    scorer: Scorer, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Those beside standard output have none; and those of other options are no reason to refuse the next run."""
    for output, column in (("-", None), ("-", "id"), (tmp_path / "in.scored.csv", None), ("-", "id")):
        score(scorer, source, output, id_column=column)
    score(scorer, source, tmp_path / "in.scored.csv")
    assert "meta.json" not in [path.suffix for path in tmp_path.iterdir()]
    assert len(capfd.readouterr().out.splitlines()) == 9


def test_rejects_of_an_earlier_run_do_not_outlive_a_clean_one_to_standard_output(
    scorer: Scorer, source: Path, tmp_path: Path
) -> None:
    score(scorer, source, "/dev/null")
    assert (tmp_path / "in.csv.rejected.jsonl").exists()
    source.write_bytes(b"text\ngood\n")
    score(scorer, source, "/dev/null")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_run_that_was_killed_between_two_renames_is_still_ours(
    scorer: Scorer, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step of putting the files in their places: the same command goes on, and no file of ours is refused."""
    output = tmp_path / "out.csv"
    score(scorer, source, output)
    expected = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "out.csv.meta.json"}

    class Killed(BaseException):
        pass

    replace, discard = Path.replace, Parts.discard
    for step in range(4):
        left = iter(range(step))

        def replace_some(path: Path, target: Path, left: Iterator[int] = left) -> Path:
            if next(left, None) is None:
                raise Killed
            return replace(path, target)

        def stop(parts: Parts) -> None:
            raise Killed

        monkeypatch.setattr(Path, "replace", replace_some)
        monkeypatch.setattr(Parts, "discard", stop)
        with pytest.raises(Killed):
            score(scorer, source, output, probabilities=True)
        assert (tmp_path / "out.csv.parts" / UNPUBLISHED).exists() == (step < 3)
        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr(Parts, "discard", discard)
        assert score(scorer, source, output, probabilities=True).resumed == 3
        score(scorer, source, output)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".json"} == expected


def test_a_folder_of_parts_that_holds_something_else_is_left_alone(
    scorer: Scorer, source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out.csv.parts"
    folder.mkdir()
    (folder / "thesis.docx").write_bytes(b"mine")
    for resume in (True, False):
        with pytest.raises(UsageError, match=r"out\.csv\.parts: holds thesis\.docx, which toolchain did not put there"):
            score(scorer, source, tmp_path / "out.csv", resume=resume)
    assert (folder / "thesis.docx").exists()


# --- two places that are one -----------------------------------------------------------------------------------------


def test_an_input_of_the_run_is_no_output_of_it(tmp_path: Path) -> None:
    for name in ("in.csv", "in.scored.csv", "in.csv.rejected.jsonl", "other.csv"):
        (tmp_path / name).write_bytes(ROWS)
    names = {name: str(tmp_path / name) for name in os.listdir(tmp_path)}
    scored = {name: output_path(name, None, many=True) for name in names.values()}
    for other in ("in.scored.csv", "in.csv.rejected.jsonl"):
        files = [(name, scored[name]) for name in (names["in.csv"], names[other])]
        with pytest.raises(UsageError, match=rf"{other}: is an input"):
            check_places(files)
    with pytest.raises(UsageError, match=r"other\.csv: is an input; name another output: --summary"):
        check_places([(names["other.csv"], scored[names["other.csv"]])], overwrite=True, summary=names["other.csv"])


def test_two_inputs_never_go_to_one_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    files = [(f"{tmp_path}/{name}", f"{tmp_path}/{out}") for name, out in (("a.csv", "o.csv"), ("b.csv", "link/o.csv"))]
    with pytest.raises(UsageError, match=r"several inputs would be written to .*o\.csv; score them one after"):
        check_places(files)
    files = [(f"{tmp_path}/{name}", f"{tmp_path}/{out}") for name, out in (("a", "x.csv"), ("b", "x.scored.csv"))]
    with pytest.raises(UsageError, match=r"several inputs would be written to .*x\.csv\.rejected\.jsonl"):
        check_places(files)
    with pytest.raises(UsageError, match=r"several inputs would be written to .*x\.csv"):
        check_places(files[:1], overwrite=True, summary=f"{tmp_path}/x.csv")


def test_a_summary_replaces_a_summary_and_nothing_else(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    summary = tmp_path / "s.json"
    for _ in range(2):
        check_places([], str(summary))
        write_summaries([Outcome(score(scorer, source, tmp_path / "out.csv"))], str(summary))
    (run,) = json.loads(summary.read_bytes())
    del run["made_by"]  # as the first version wrote it
    summary.write_text(json.dumps([run]))
    check_places([], str(summary))
    for mine in ("{}", "[1]", "", '[{"input": "x"}]'):
        summary.write_text(mine)
        with pytest.raises(UsageError, match=r"s\.json: exists, .*: --summary, or replace it: --overwrite"):
            check_places([], str(summary))
    check_places([], str(summary), overwrite=True)


# --- what is no plain file -------------------------------------------------------------------------------------------


def test_a_link_stays_and_the_file_behind_it_is_written(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "out.csv"
    link.symlink_to("disk/real.csv")
    for _ in range(2):
        summary = score(scorer, source, link)
    assert link.is_symlink()
    assert summary.rejects == f"{tmp_path}/disk/real.csv.rejected.jsonl"
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == [
        *("real.csv", "real.csv.meta.json", "real.csv.rejected.jsonl")
    ]
    (tmp_path / "disk" / "real.csv").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"out\.csv: exists"):
        score(scorer, source, link)


@pytest.mark.parametrize("name", ["fifo", "fifo.csv.gz"])
def test_a_fifo_is_written_through_and_stays_one(name: str, scorer: Scorer, source: Path, tmp_path: Path) -> None:
    import gzip

    fifo, plain = tmp_path / name, tmp_path / "plain.csv"
    score(scorer, source, plain)
    os.mkfifo(fifo)
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.append(fifo.read_bytes()))
    reader.start()
    summary = score(scorer, source, fifo)
    reader.join()
    assert (gzip.decompress(said[0]) if name.endswith(".gz") else said[0]) == plain.read_bytes()
    assert fifo.is_fifo()
    assert summary.rejects == f"{tmp_path}/in.csv.rejected.jsonl"
    assert not record_path(fifo).exists()


def test_devices_stay_devices(scorer: Scorer, source: Path) -> None:
    score(scorer, source, "/dev/null")
    assert Path("/dev/null").is_char_device()
    assert not Path("/dev/null.parts").exists()
    with pytest.raises(UsageError, match="/dev/full: No space left on device"):
        score(scorer, source, "/dev/full")


def test_parquet_does_not_go_through_a_fifo(scorer: Scorer, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["fine"]}), tmp_path / "in.parquet")
    os.mkfifo(tmp_path / "out.parquet")
    with pytest.raises(UsageError, match="Parquet cannot be written to a pipe"):
        score(scorer, tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_a_slash_at_the_end_is_a_folder_and_standard_output_has_many_names(tmp_path: Path) -> None:
    assert output_path("d/in.csv", f"{tmp_path}/new/", many=False) == f"{tmp_path}/new/in.scored.csv"
    for name in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        assert output_path("in.csv", name, many=False) == "-"


def test_a_stopped_run_to_a_fifo_says_what_it_is(scorer: Scorer, source: Path) -> None:
    with pytest.raises(Interrupted, match="nothing was kept"):
        score_file(scorer, str(source), "/dev/null", ANYTHING, stopping=lambda: True)


def test_the_commands_refuse_and_overwrite(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*arguments, "-q"])
        return done.exit_code, " ".join(done.stderr.split())

    base = ("score", "in.csv", "--max-rejects", "1", "--bundle", str(BOX))
    for option in ("-o", "--summary"):
        status, said = run(*base, option, "mine")
        assert status == 2
        assert "mine: exists, and toolchain did not write it as it is now" in said
        assert f"name another place: {option}, or replace it: --overwrite" in said
        assert mine.read_bytes() == b"mine"
        status, said = run(*base, option, "mine", "--dry-run")
        assert status == 2
    assert run(*base, "-o", "new/", "--summary", "new/") == (0, "")
    assert run(*base, "-o", "new/", "--summary", "new/") == (0, "")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        *("in.csv.rejected.jsonl", "in.scored.csv", "in.scored.csv.meta.json", "summary.json")
    ]
    assert run(*base, "-o", "mine", "--overwrite") == (0, "")


def test_a_summary_may_lie_in_a_folder_that_an_output_makes(tmp_path: Path) -> None:
    new = tmp_path / "new"
    check_places([("in.csv", str(new / "out.csv"))], str(new / "s.json"))
    with pytest.raises(UsageError, match="is not a folder; name another place: --summary"):
        check_places([("in.csv", str(tmp_path / "out.csv"))], str(new / "s.json"))
