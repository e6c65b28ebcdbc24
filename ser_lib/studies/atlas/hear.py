"""HEAR 2021: CREMA-D in folds that its code makes at run time; there is no list."""

from collections.abc import Iterator

from ser_lib.studies.atlas.lists import Lists, PublishedSplit

COMMIT = "00ef9ea82f21cf793968f842d75b59155cec50ec"
CODE = "https://github.com/hearbenchmark/hear-preprocess/blob"


def splits(lists: Lists) -> Iterator[PublishedSplit]:
    yield PublishedSplit(
        benchmark="HEAR",
        corpus="crema_d",
        commit=COMMIT,
        url=f"{CODE}/{COMMIT}/hearpreprocess/pipeline.py",
        stated="red",
        how=(
            "Its task asks for five new folds over all clips in place of TFDS's parts, because “examples in the literature "
            "use 5-fold cross validation”; the key by which its code assigns folds is the file name, since the task names "
            "no other. A fold then holds clips of nearly all 91 speakers."
        ),
        how_url=(
            f"{CODE}/cbcba4213c62271e1f5b5c8f1d456a17a6a96b10/hearpreprocess/secrettasks/hearsecrettasks/tfds_crema_d.py"
        ),
    )
