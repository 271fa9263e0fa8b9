"""`evaluate` replaces its own predictions and figures, and nobody else's; what it evaluated stands beside them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.bundle import open_bundle
from toolchain.cli.app import app
from toolchain.scoring.default import BOX


def test_predictions_and_figures_replace_their_own_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("text,label\na dull film,neg\nan elegant film,pos\n")

    def run(*more: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["evaluate", "--data", "in.csv", "--bundle", str(BOX), "-q", *more])
        return done.exit_code, " ".join(done.stderr.split())

    for _ in range(2):
        assert run("--predictions", "out/", "--reliability", "out/")[0] == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [
        *("predictions.csv", "predictions.csv.meta.json", "reliability.png")
    ]
    record = json.loads(Path("out/predictions.csv.meta.json").read_bytes())
    assert (record["bundle"], record["data"]) == (open_bundle(BOX).identity, "in.csv")
    for option, name in (("--predictions", "mine.csv"), ("--reliability", "mine.png")):
        Path(name).write_text("mine")
        status, said = run(option, name)
        assert status == 2
        assert f"{name}: exists, " in said
        assert f"name another place: {option}, or replace it: --overwrite" in said
        assert Path(name).read_text() == "mine"
        assert run(option, name, "--overwrite")[0] == 0
    status, said = run("--predictions", "in.csv", "--overwrite")
    assert status == 2
    assert "in.csv: is an input" in said
