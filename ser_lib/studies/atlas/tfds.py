"""TensorFlow Datasets: CREMA-D in three parts that its code makes at run time; there is no list."""

from collections.abc import Iterator

from ser_lib.studies.atlas.lists import Lists, PublishedSplit

COMMIT = "1aceae884e13ecd0aa18c6ee5d57339827e61509"
URL = f"https://github.com/tensorflow/datasets/blob/{COMMIT}/tensorflow_datasets/audio/crema_d.py"


def splits(lists: Lists) -> Iterator[PublishedSplit]:
    yield PublishedSplit(
        benchmark="TFDS",
        corpus="crema_d",
        commit=COMMIT,
        url=URL,
        stated="green",
        how=(
            "Its code shuffles the speakers, and gives 70 % of them to training, 10 % to validation and 20 % to the test: "
            "“samples from each speaker belongs to exactly one split”."
        ),
        how_url=URL,
    )
