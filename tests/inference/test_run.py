"""A run folder is read whole and of one run, or refused by the name of the file that is damaged."""

import json
import logging
import os
import shutil
import threading

import numpy as np
import pandas as pd
import pytest
import tiny_runs

from ser_lib.common import manifest
from ser_lib.common.errors import SerError
from ser_lib.common.files import move_into_place
from ser_lib.inference import run as run_module
from ser_lib.inference.run import FILES, load_run, write_manifest


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, and one of another seed."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_CACHE_DIR", str(folder / "cache"))
        run, clips = tiny_runs.train(folder, patch, "demo")
        other = tiny_runs.experiment.train(run.recipe, seed=1, runs_dir=folder / "runs", progress=False)
    return run, other


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained[0].folder, tmp_path / "runs" / "0")


class TestAManifest:
    def test_lists_every_file_of_the_run(self, folder):
        listed = set(manifest.read(folder).hashes)
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert listed == files - {"manifest.json"} and {*FILES, "README.md", "model/model.safetensors"} <= listed

    def test_notices_any_flipped_bit(self, folder):
        rng = np.random.default_rng(0)
        read = [*FILES, "model/config.json", "model/model.safetensors"]
        for name in read * 3:
            content = (folder / name).read_bytes()
            flipped = bytearray(content)
            flipped[rng.integers(len(flipped))] ^= 1 << rng.integers(8)
            (folder / name).write_bytes(flipped)
            with pytest.raises(SerError, match=r"damaged|cannot be read|is not of this run|replaced"):
                load_run(folder).model()
            (folder / name).write_bytes(content)
        assert load_run(folder).model()

    def test_notices_files_of_another_run(self, folder, trained):
        for name in ("predictions.csv", "metrics.json", "split.csv", "model/model.safetensors"):
            kept = (folder / name).read_bytes()
            shutil.copy(trained[1].folder / name, folder / name)
            with pytest.raises(SerError, match=f"{name} is not the file that was written with this run"):
                load_run(folder).predictor()
            (folder / name).write_bytes(kept)

    def test_is_missing_in_a_run_of_before_which_is_read_with_a_line(self, folder, caplog):
        (folder / "manifest.json").unlink()
        with caplog.at_level(logging.WARNING):
            assert load_run(folder).predictor()
        assert [f"{folder} has no manifest.json"] == [text.partition(":")[0] for text in caplog.messages]

    def test_leaves_the_card_to_its_readers(self, folder):
        (folder / "README.md").write_text("my own words")
        assert load_run(folder).predictor()


class TestTheOrderOfTheEmotions:
    def test_is_that_of_the_model(self, folder, trained):
        table = pd.read_csv(folder / "predictions.csv")
        swapped = table.columns.tolist()
        swapped[2:4] = swapped[3:1:-1]
        table[swapped].to_csv(folder / "predictions.csv", index=False)
        write_manifest(folder)
        with pytest.raises(SerError, match="the model beside it answers neutral, happy, sad, in this order"):
            load_run(folder)
        assert trained[0].emotions == trained[0].model().emotions

    def test_is_the_same_in_all_folds(self, folder):
        path = folder / "model" / "fold-1" / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"emotions": config["emotions"][::-1]}))
        write_manifest(folder)
        with pytest.raises(SerError, match="fold-1 answers other emotions"):
            load_run(folder).predictor("all")


@pytest.mark.parametrize("name", [*FILES, "model/config.json", "manifest.json"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"{", b"[]", b"null", b"1", b"{}", b"[[1]]", b"a,b\n1,2\n"],
    ids=lambda content: repr(content),
)
def test_a_damaged_file_is_named(folder, name, content):
    if name != "manifest.json":
        (folder / "manifest.json").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(SerError, match=name):
        load_run(folder)


class TestARunThatIsReplacedMeanwhile:
    def test_is_never_read_as_a_mixture(self, folder, trained):
        numbers = {run.predictions.to_csv(): run.seed for run in trained}
        stop, seen, problems = threading.Event(), set(), []

        def replace():
            number = 0
            while not stop.is_set():
                part = folder.with_name(".0.partial")
                shutil.copytree(trained[number % 2].folder, part)
                move_into_place(part, folder)
                number += 1
                # A training lies between two replacements: not two of them between two looks of a reader.
                stop.wait(0.02)

        writer = threading.Thread(target=replace)
        writer.start()
        try:
            for _ in range(40):
                try:
                    run = load_run(folder)
                    assert numbers[run.predictions.to_csv()] == run.seed
                    seen.add(run.seed)
                    run.model()
                except manifest.ReplacedError as error:
                    problems.append(str(error))
        finally:
            stop.set()
            writer.join()
        assert seen and all("replaced by another run" in text for text in problems)

    def test_is_waited_for(self, folder, monkeypatch):
        aside = folder.with_name(".0.old")
        folder.rename(aside)
        monkeypatch.setattr(run_module.time, "sleep", lambda _: os.path.lexists(folder) or aside.rename(folder))
        assert load_run(folder).predictor()

    def test_gives_no_model_of_the_other(self, folder, trained):
        run = load_run(folder)
        shutil.rmtree(folder)
        shutil.copytree(trained[1].folder, folder)
        with pytest.raises(manifest.ReplacedError, match="was replaced by another run"):
            run.predictor()
