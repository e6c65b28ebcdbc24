"""Make the model that comes with the package again: train `speech-emotion`, or take a finished run of it, and export it.

make model                          # with openai/whisper-base of the Hugging Face Hub
make model ARGS="--encoder DIR"     # with a local copy of it
make model ARGS=--card-only         # the model card alone, after `make tables`
"""

import argparse
import sys

from ser_lib.cli import recipe_of
from ser_lib.common.errors import SerError
from ser_lib.deploy.package_model import RECIPE, make_model, write_card
from ser_lib.inference.run import runs_root
from ser_lib.studies.claims import PlannedRun


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
    recipe = recipe_of(RECIPE, "stated", [], [f"input.encoder={options.encoder}"] if options.encoder else [])
    planned = PlannedRun(recipe, "speaker", 0, runs_root(options.runs_dir))
    try:
        print(make_model(planned.finished_or_trained(options.data_dir, print), data_dir=options.data_dir))
    except SerError as error:
        sys.exit(f"make_model: {error}")


if __name__ == "__main__":
    main()
