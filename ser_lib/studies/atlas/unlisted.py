"""CREMA-D in folds and parts that code makes at run time: HEAR, MTEB and TensorFlow Datasets publish no list."""

from ser_lib.studies.atlas.lists import PublishedSplit

HEAR = PublishedSplit(
    benchmark="HEAR",
    corpus="crema_d",
    commit="00ef9ea82f21cf793968f842d75b59155cec50ec",
    url="https://github.com/hearbenchmark/hear-preprocess/blob/00ef9ea82f21cf793968f842d75b59155cec50ec/hearpreprocess/"
    "pipeline.py",
    stated="red",
    how="Its task asks for five new folds over all clips in place of TFDS's parts, because “examples in the literature "
    "use 5-fold cross validation”; the key by which its code assigns folds is the file name, since the task names "
    "no other. A fold then holds clips of nearly all 91 speakers.",
    how_url="https://github.com/hearbenchmark/hear-preprocess/blob/cbcba4213c62271e1f5b5c8f1d456a17a6a96b10/"
    "hearpreprocess/secrettasks/hearsecrettasks/tfds_crema_d.py",
)
MTEB = PublishedSplit(
    benchmark="MTEB",
    corpus="crema_d",
    commit="0839f3edcf56e9a55d0cc3c803fd5bc9631bf5a6",
    url="https://github.com/embeddings-benchmark/mteb/blob/0839f3edcf56e9a55d0cc3c803fd5bc9631bf5a6/mteb/abstasks/Audio/"
    "AbsTaskAudioClassification.py",
    stated="red",
    how="Its task CREMA_D sets is_cross_validation, for which its code divides all clips at random: "
    "KFold(n_splits=5, shuffle=True, random_state=42). It then draws 10 training clips of each emotion from the "
    "other folds, so that some test speakers, not all, are in training.",
    how_url="https://github.com/embeddings-benchmark/mteb/blob/13c362cc1bdfb839e6f0e2223229a0432f21c32e/mteb/tasks/Audio/"
    "AudioClassification/eng/CREMA_D.py",
)
TFDS_CODE = (
    "https://github.com/tensorflow/datasets/blob/1aceae884e13ecd0aa18c6ee5d57339827e61509/tensorflow_datasets/audio/"
    "crema_d.py"
)
TFDS = PublishedSplit(
    benchmark="TFDS",
    corpus="crema_d",
    commit="1aceae884e13ecd0aa18c6ee5d57339827e61509",
    url=TFDS_CODE,
    stated="green",
    how="Its code shuffles the speakers, and gives 70 % of them to training, 10 % to validation and 20 % to the test: "
    "“samples from each speaker belongs to exactly one split”.",
    how_url=TFDS_CODE,
)
