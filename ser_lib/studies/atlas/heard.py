"""What models that others publish were trained on, as their authors state it: a score on such a corpus is not zero-shot.

A model may have been trained on a corpus that is not named here: most large models do not list their training data.
"""

from dataclasses import dataclass

from ser_lib.studies.atlas import emobox


@dataclass(frozen=True)
class Heard:
    """One model, and the corpora that its authors name as training data."""

    model: str
    corpora: tuple[str, ...]  # names in `ser_lib.corpora`; (): none is named
    how: str
    url: str
    is_certain: bool = True  # False: only some of the corpora, and it is not stated which


HEARD = (
    Heard(
        "emotion2vec",
        ("iemocap", "meld", "cmu_mosei", "mead", "msp_podcast"),
        "Pre-trained on the audio of IEMOCAP, MELD, CMU-MOSEI, MEAD and MSP-Podcast, without labels (262 hours).",
        "https://arxiv.org/abs/2312.15185",
    ),
    Heard(
        "emotion2vec+",
        tuple(emobox.SOURCE.corpora.values()),
        "emotion2vec+ seed was fine-tuned on “academic speech emotion data from EmoBox” (201 hours), and base and large are "
        "derived from it. Which of EmoBox's 32 corpora, and which of their clips, is not stated.",
        "https://huggingface.co/emotion2vec/emotion2vec_plus_seed",
        is_certain=False,
    ),
    Heard(
        "audEERING's wav2vec2-large-robust-12",
        ("msp_podcast",),
        "Fine-tuned on MSP-Podcast.",
        "https://huggingface.co/audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
    ),
    Heard(
        "SpeechBrain's wav2vec2-IEMOCAP",
        ("iemocap",),
        "Fine-tuned on IEMOCAP.",
        "https://huggingface.co/speechbrain/emotion-recognition-wav2vec2-IEMOCAP",
    ),
    Heard(
        "ehcalabres' wav2vec2-lg-xlsr",
        ("ravdess",),
        "Fine-tuned on RAVDESS.",
        "https://huggingface.co/ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition",
    ),
    Heard(
        "SenseVoice",
        (),
        "Its README states more than 400,000 hours of training data, and scores “without finetuning on the target data”; it "
        "names no corpus of emotions that it was trained on, so that nothing can be said of any.",
        "https://github.com/FunAudioLLM/SenseVoice/blob/0b9bafdf2e03f59c4acdd2d83acfbe9c44749d7c/README.md",
    ),
)
