"""Make `data/sample`: synthetic acted speech, so that everything in this repository runs without a download.

Eight voices say the two statements of RAVDESS with eight emotions, two takes each: 256 clips, 16 kHz mono
16-bit FLAC, named as RAVDESS names its files (odd voices sound male, even ones female). espeak-ng speaks;
each take has a voice variant of its own, written for it. How a voice changes with the emotion (`EMOTIONS`)
follows what was found with people:

- Anger and joy raise pitch, loudness and rate; sadness lowers them and takes energy from the high
  frequencies, anger adds it (Banse & Scherer 1996, doi 10.1037/0022-3514.70.3.614; Scherer 2003,
  doi 10.1016/S0167-6393(02)00084-5).
- Fear is fast, high and irregular, softer than anger and with little variation of pitch; tenderness, the
  nearest to calm that was reviewed, is slow, low, soft and smooth (Juslin & Laukka 2003,
  doi 10.1037/0033-2909.129.5.770).
- Disgust is very slow and low, with a grumbling chest tone (Murray & Arnott 1993, doi 10.1121/1.405558).
- Listeners hear surprise where the pitch is high, varies much and goes up (Scherer & Oshinsky 1977, with
  synthetic tones, doi 10.1007/BF00992539).
- Smiling raises the formants (Tartter 1980, doi 10.3758/BF03199901).

Voices differ in accent, pitch, vocal tract, rate and level, and each exaggerates or understates in its own
way, so that voices overlap. How much they do is chosen, not measured: no number on this corpus says
anything about people.

usage: python scripts/make_sample_corpus.py [--output data/sample]

The committed files were made with espeak-ng 1.51 (Debian 12, 1.51+dfsg-10+deb12u2, x86-64). The same
version makes the same samples, bit for bit; another version speaks a little differently.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from ser_lib.common.errors import SerError
from ser_lib.common.files import replacing

ESPEAK_VERSION = "1.51"
SEED = 1996
SAMPLING_RATE = 16000
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
REPETITIONS = 2
PAD_SECONDS = 0.1
# The lowest four bits are zero: that halves the files, and the rounding noise (-77 dB re full scale) is no
# louder than the noise of a good recording.
STEP = 16

# pitch: semitones; range: semitones from the lowest to the highest; rate: octaves (1 is twice as fast);
# level: dB; tilt: dB per octave; formants: percent; breath, roughness, flutter: espeak-ng's own units;
# tremor: percent of the amplitude.
QUALITIES = ("pitch", "range", "rate", "level", "tilt", "formants", "breath", "roughness", "flutter", "tremor")

# What is added to a voice's own qualities, and the mark that ends the sentence (it chooses the melody).
EMOTIONS = {
    "neutral": ((0.0, 0.0, 0.00, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), "."),
    "calm": ((-1.0, -1.5, -0.15, -3.5, -1.4, 0.0, 2.0, -1.0, -1.0, 0.0), "."),
    "happy": ((4.0, 3.5, 0.08, 3.0, 1.6, 6.0, 0.0, -1.0, 0.0, 0.0), "!"),
    "sad": ((-1.5, -2.5, -0.25, -5.5, -2.8, -1.0, 1.0, 0.0, 2.0, 3.0), "."),
    "angry": ((3.5, 3.0, 0.10, 5.5, 3.0, -2.0, 0.0, 2.0, 0.0, 0.0), "!"),
    "fear": ((5.5, -1.0, 0.22, -2.0, -1.6, 1.0, 1.0, 0.0, 8.0, 18.0), "."),
    "disgust": ((-2.0, 0.5, -0.30, -0.5, 1.2, -6.0, 0.0, 3.0, 0.0, 0.0), "."),
    "surprise": ((5.0, 6.0, -0.04, 2.0, 0.2, 1.0, 4.0, -1.0, 0.0, 0.0), "?"),
}

# British English is "en" here: espeak-ng lets the variant added to "en-gb" go by without a word.
# Accent, Hz, semitones, words per minute, dB re full scale, dB per octave, percent of espeak-ng's own
# (male) vocal tract, breath, roughness, expressiveness.
VOICES = {
    1: ("en-us", 112, 6.0, 168, -25.0, 0.0, 100, 0, 2, 1.00),
    2: ("en-us", 205, 6.5, 172, -25.5, -0.1, 113, 1, 1, 1.05),
    3: ("en", 98, 5.0, 160, -24.0, -0.3, 97, 0, 2, 0.90),
    4: ("en", 188, 6.0, 164, -26.0, 0.2, 110, 1, 1, 0.95),
    5: ("en-gb-scotland", 125, 7.0, 176, -24.5, 0.2, 102, 0, 1, 1.10),
    6: ("en-us-nyc", 216, 7.0, 178, -25.0, 0.0, 114, 1, 1, 1.10),
    7: ("en-us-nyc", 105, 5.5, 170, -25.5, 0.1, 99, 0, 2, 1.00),
    8: ("en-gb-x-rp", 198, 5.5, 166, -24.5, -0.1, 112, 1, 0, 0.90),
}

# The largest deviation of a voice's own way with an emotion, and of one take.
OWN_WAY = np.array((1.0, 0.8, 0.05, 0.6, 0.2, 0.5, 0.4, 0.5, 1.0, 3.0))
PER_TAKE = np.array((0.5, 0.5, 0.04, 0.6, 0.2, 0.5, 0.5, 0.5, 0.8, 2.0))


def find_espeak() -> tuple[str, Path]:
    """Return espeak-ng's version and the folder of its data.

    Raises:
        SerError: espeak-ng is not installed, or answers in a way that is not understood.
    """
    if shutil.which("espeak-ng") is None:
        raise SerError(
            "espeak-ng is not installed: get it with `apt-get install espeak-ng` (Debian, Ubuntu) or "
            "`brew install espeak-ng` (macOS). It is only needed to make data/sample again, which is committed."
        )
    answer = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"text-to-speech: (\S+)\s+Data at: (.+)", answer)
    if found is None:
        raise SerError(f"expected espeak-ng --version to name a version and a data folder, got {answer!r}")
    return found[1], Path(found[2].strip())


def copy_espeak_data(source: Path, target: Path) -> None:
    """Copy espeak-ng's data to where a voice variant can be added: its own folder belongs to the system."""
    shutil.copytree(source, target / "espeak-ng-data", ignore=shutil.ignore_patterns("voices"))
    (target / "espeak-ng-data" / "voices" / "!v").mkdir(parents=True)


def qualities_of(actor: int, emotion: str, statement: int, repetition: int) -> dict[str, float]:
    """Return the qualities of one take, in the units of `QUALITIES` (pitch in Hz, rate in words per minute)."""
    _, pitch, pitch_range, rate, level, tilt, formants, breath, roughness, expressiveness = VOICES[actor]
    place = list(EMOTIONS).index(emotion)
    own = np.random.default_rng([SEED, actor, place])
    take = np.random.default_rng([SEED, actor, place, statement, repetition])
    change = expressiveness * np.array(EMOTIONS[emotion][0])
    change += OWN_WAY * own.uniform(-1, 1, len(QUALITIES)) + PER_TAKE * take.uniform(-1, 1, len(QUALITIES))
    added = dict(zip(QUALITIES, change, strict=True))
    return {
        "pitch": pitch * 2 ** (added["pitch"] / 12),
        "range": max(pitch_range + added["range"], 1.5),
        "rate": rate * 2 ** added["rate"],
        "level": level + added["level"],
        "tilt": tilt + added["tilt"],
        "formants": formants + added["formants"],
        "breath": max(breath + added["breath"], 0),
        "roughness": min(max(roughness + added["roughness"], 0), 6),
        "flutter": max(2 + added["flutter"], 0),
        "tremor": max(added["tremor"], 0),
    }


def voice_variant(qualities: dict[str, float]) -> str:
    """Return the text of an espeak-ng voice variant (its docs/voices.md explains the lines)."""
    # Speech spends most of its time in the lower part of its range, so the mean lies a third of the way up.
    lowest = qualities["pitch"] * 2 ** (-qualities["range"] / 36)
    highest = lowest * 2 ** (qualities["range"] / 12)
    tract, breath = round(qualities["formants"]), round(qualities["breath"])
    lines = ["language variant", "name take", f"pitch {lowest:.0f} {highest:.0f}"]
    lines += [f"formant {number} {tract} 100 {tract}" for number in range(1, 9)]
    lines += [f"breath 0 {' '.join([str(breath)] * 7)}"]
    lines += [f"roughness {qualities['roughness']:.0f}", f"flutter {qualities['flutter']:.0f}"]
    return "\n".join(lines) + "\n"


def finish(waveform: np.ndarray, qualities: dict[str, float], phase: float) -> np.ndarray:
    """Trim a (n_samples,) waveform in ±1, tilt its spectrum, add tremor, set its level; return int16."""
    loud = np.flatnonzero(np.abs(waveform) > 10 ** (-50 / 20) * np.abs(waveform).max())
    pad = np.zeros(round(PAD_SECONDS * SAMPLING_RATE))
    waveform = np.concatenate([pad, waveform[loud[0] : loud[-1] + 1], pad])

    frequency = np.fft.rfftfreq(len(waveform), 1 / SAMPLING_RATE)
    # Flat below 300 Hz: tilted any further, a voice would turn into hum or lose its fundamental.
    octaves = np.log2(np.maximum(frequency, 300) / 1000)
    waveform = np.fft.irfft(np.fft.rfft(waveform) * 10 ** (qualities["tilt"] * octaves / 20), len(waveform))

    seconds = np.arange(len(waveform)) / SAMPLING_RATE
    waveform *= 1 + qualities["tremor"] / 100 * np.sin(2 * np.pi * 6 * seconds + phase)

    voiced = waveform[len(pad) : -len(pad)]
    gain = 10 ** (qualities["level"] / 20) / np.sqrt(np.mean(voiced**2))
    gain = min(gain, 0.9 / np.abs(waveform).max())
    return (np.round(waveform * gain * 32768 / STEP) * STEP).astype(np.int16)


def speak(actor: int, emotion: str, statement: int, repetition: int, data: Path) -> np.ndarray:
    """Return one take as (n_samples,) int16 at 16 kHz; `data` is where `copy_espeak_data` copied to."""
    qualities = qualities_of(actor, emotion, statement, repetition)
    (data / "espeak-ng-data" / "voices" / "!v" / "take").write_text(voice_variant(qualities))
    wav = data / "take.wav"
    command = ["espeak-ng", f"--path={data}", "-v", f"{VOICES[actor][0]}+take", "-s", f"{qualities['rate']:.0f}"]
    command += ["-w", str(wav), STATEMENTS[statement - 1] + EMOTIONS[emotion][1]]
    subprocess.run(command, check=True)
    waveform, rate = soundfile.read(wav)
    phase = 2 * np.pi * np.random.default_rng([SEED, actor, statement, repetition]).uniform()
    return finish(soxr.resample(waveform, rate, SAMPLING_RATE, quality="VHQ"), qualities, phase)


def make_voice(actor: int, output: Path, data: Path, done=lambda: None) -> None:
    """Write all clips of one voice into `output`/Actor_NN, and call `done` after each."""
    for emotion, statement, repetition in product(EMOTIONS, (1, 2), range(1, REPETITIONS + 1)):
        waveform = speak(actor, emotion, statement, repetition, data)
        code = list(EMOTIONS).index(emotion) + 1
        name = f"03-01-{code:02d}-01-{statement:02d}-{repetition:02d}-{actor:02d}.flac"
        with replacing(output / f"Actor_{actor:02d}" / name) as part:
            soundfile.write(part, waveform, SAMPLING_RATE, subtype="PCM_16", compression_level=1.0)
        done()


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundled sample corpus with espeak-ng.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent.parent / "data" / "sample")
    output = parser.parse_args().output
    try:
        version, source = find_espeak()
    except SerError as error:
        sys.exit(str(error))
    if version != ESPEAK_VERSION:
        warning = f"espeak-ng {version}: the committed files were made with {ESPEAK_VERSION}, these will differ"
        print(warning, file=sys.stderr)
    clips = len(VOICES) * len(EMOTIONS) * len(STATEMENTS) * REPETITIONS
    with tempfile.TemporaryDirectory() as folder, tqdm(total=clips, unit="clip") as bar:
        copy_espeak_data(source, Path(folder))
        for actor in VOICES:
            make_voice(actor, output, Path(folder), done=bar.update)
    size = sum(path.stat().st_size for path in output.rglob("*.flac"))
    print(f"{clips} clips, {size / 1e6:.2f} MB, in {output}")


if __name__ == "__main__":
    main()
