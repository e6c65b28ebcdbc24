"""MTEB (MAEB): CREMA-D in folds that its code makes at run time; there is no list."""

from collections.abc import Iterator

from ser_lib.studies.atlas.lists import Lists, PublishedSplit

COMMIT = "0839f3edcf56e9a55d0cc3c803fd5bc9631bf5a6"
CODE = "https://github.com/embeddings-benchmark/mteb/blob"


def splits(lists: Lists) -> Iterator[PublishedSplit]:
    yield PublishedSplit(
        benchmark="MTEB",
        corpus="crema_d",
        commit=COMMIT,
        url=f"{CODE}/{COMMIT}/mteb/abstasks/Audio/AbsTaskAudioClassification.py",
        stated="red",
        how=(
            "Its task CREMA_D sets is_cross_validation, for which its code divides all clips at random: "
            "KFold(n_splits=5, shuffle=True, random_state=42). It then draws 10 training clips of each emotion from the "
            "other folds, so that some test speakers, not all, are in training."
        ),
        how_url=f"{CODE}/13c362cc1bdfb839e6f0e2223229a0432f21c32e/mteb/tasks/Audio/AudioClassification/eng/CREMA_D.py",
    )
