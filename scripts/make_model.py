"""Make the model that comes with the package again: train `speech-emotion`, or take a finished run of it, and export it.

make model                          # with openai/whisper-base of the Hugging Face Hub
make model ARGS="--encoder DIR"     # with a local copy of it
make model ARGS=--card-only         # the model card alone, after `make tables`
"""

import argparse
from contextlib import suppress

import ser_lib
from ser_lib.cli import recipe_of
from ser_lib.common.errors import SerError
from ser_lib.deploy.package_model import RECIPE, make_model, write_card
from ser_lib.inference.run import Run, run_folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the model that comes with the package again.")
    parser.add_argument("--encoder", help="a local copy of openai/whisper-base")
    parser.add_argument("--card-only", action="store_true", help="write the model card alone")
    parser.add_argument("--data-dir", help="as of ser train")
    parser.add_argument("--runs-dir", help="as of ser train")
    options = parser.parse_args()
    if options.card_only:
        print(write_card())
        return
    print(make_model(finished_run(options.encoder, options.data_dir, options.runs_dir), data_dir=options.data_dir))


def finished_run(encoder: str | None, data_dir: str | None, runs_dir: str | None) -> Run:
    """The run of the recipe under `speaker` with seed 0: a finished one of the same settings, or a new one."""
    recipe = recipe_of(RECIPE, "stated", [], [f"input.encoder={encoder}"] if encoder else [])
    with suppress(SerError):
        run = ser_lib.load_run(run_folder(recipe, "speaker", 0, runs_dir))
        if run.recipe == recipe:
            return run
    run = ser_lib.train(recipe, "speaker", 0, data_dir, runs_dir)
    assert run is not None
    return run


if __name__ == "__main__":
    main()
