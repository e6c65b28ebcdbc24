"""Weights of a pretrained encoder: found in a folder or in a commit of a Hugging Face repository, and loaded.

Weights are read from safetensors only: loading pickled weights can run any program.
"""

import errno
import hashlib
import json
import re
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ser_lib.audio.features import ACOUSTIC_FEATURES
from ser_lib.common.errors import SerError, did_you_mean
from ser_lib.common.files import cache_dir, damaged, read_json, with_home, write_text

ARCHITECTURES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "whisper")
FILES = ["config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json"]
# The parts of a stock audio classifier behind its encoder.
HEAD = ("projector", "classifier", "layer_weights")
# The Hub's own converter opens a pull request that adds safetensors to a repository of pickled weights.
CONVERTER = "SFconvertbot"
REFUSED = "can run any program while they are loaded, and are refused"
CONVERT = (
    "Have them converted at https://huggingface.co/spaces/safetensors/convert, or convert them once, where you trust "
    "them, with `model.save_pretrained(folder)`"
)


@dataclass(frozen=True)
class Checkpoint:
    """Weights on this disk, with their configuration."""

    folder: Path
    name: str  # as tables show it: `label`
    # The key of results computed with these weights: the Hub's commit, or a hash of the folder's files.
    identity: str
    config: dict = field(repr=False, compare=False)

    @property
    def n_layers(self) -> int:
        """Number of hidden states: the input of the first transformer layer, and the output of each layer."""
        kind = "encoder_layers" if self.config["model_type"] == "whisper" else "num_hidden_layers"
        return self.config[kind] + 1


def label(encoder: str) -> str:
    """The name of an encoder in tables: that of its repository, or the last part of its folder.

    >>> label("facebook/wav2vec2-base"), label("~/models/whisper-base/")
    ('facebook/wav2vec2-base', 'whisper-base')
    """
    return encoder if _is_repository(encoder) else Path(encoder).name


def locate(encoder: str, revision: str | None = None) -> Checkpoint:
    """Find an encoder in a folder, or in the Hub's cache, into which it is downloaded if it is missing.

    Args:
        encoder: a repository such as "facebook/wav2vec2-base", or a folder; `~` is expanded.
        revision: the repository's commit; None: its main branch, or without a network the cached state of it.

    Raises:
        SerError: it cannot be found, holds no safetensors, or its architecture is not supported.
    """
    in_hub = _is_repository(encoder) and not Path(encoder).is_dir()
    folder = _repository(encoder, revision or "main") if in_hub else _folder(encoder)
    config = read_json(folder / "config.json", "Expected the config.json of `save_pretrained`, beside the weights.")
    if not isinstance(config, dict):
        raise damaged(folder / "config.json", "it is no configuration", "Copy the encoder again.")
    if (kind := config.get("model_type")) not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise SerError(f"{folder} is of the architecture {kind!r}; expected one of {known} (XLSR-53 is wav2vec2).")
    # The Hub's cache names its folders by the commit.
    return Checkpoint(folder, label(encoder), f"{encoder}@{folder.name}" if in_hub else _digest(folder), config)


def load_model(checkpoint: Checkpoint, model_class, new: tuple[str, ...] = (), **settings):
    """`model_class.from_pretrained(**settings)` in float32, in evaluation mode, from safetensors only, without messages.

    The parts `new` get random weights, even if the checkpoint has some. SerError where weights are damaged or do not fit.
    """
    import torch
    from safetensors import SafetensorError

    # transformers would load the adapter into the weights, or other weights that the adapter names.
    if (checkpoint.folder / "adapter_config.json").is_file():
        advice = "merge the adapter into the weights, or remove that file"
        raise SerError(f"{checkpoint.folder} holds an adapter (adapter_config.json): {advice}.")
    # Some checkpoints have an adapter behind the transformer, which the class for classification refuses.
    if checkpoint.config.get("add_adapter"):
        settings["add_adapter"] = False
    fault = f"{checkpoint.folder}: config.json states {checkpoint.config['model_type']}, but the weights"
    settings |= {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    settings |= {"output_loading_info": True, "ignore_mismatched_sizes": bool(new)}
    try:
        with quiet_transformers():
            model, report = model_class.from_pretrained(checkpoint.folder, **settings)
    except SafetensorError as error:
        raise SerError(f"{checkpoint.folder}: the weights are damaged ({error}). Copy them again.") from error
    except RuntimeError as error:
        raise SerError(f"{fault} do not fit it: {error}") from error
    except MemoryError:
        raise
    # A configuration that was edited or damaged raises whatever the architecture's own code raises.
    except Exception as error:
        raise damaged(checkpoint.folder, f"{type(error).__name__}: {error}", "Copy the encoder again.") from error
    random = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    # masked_spec_embed, the vector for masked frames in training, is not in every checkpoint.
    optional = re.compile(rf"(^|\.)({'|'.join(['masked_spec_embed', *new])})")
    missing = [key for key in sorted(random) if not optional.search(key)]
    if missing:
        lack = f"lack {len(missing)} of its tensors, first {missing[0]}"
        raise SerError(f"{fault} {lack}. They are of another model: take the config.json that belongs to them.")
    for name in new:
        part = getattr(model, name, None)
        if f"{name}.weight" not in random and isinstance(part, torch.nn.Linear):
            # The distribution that transformers uses for a new head.
            std = getattr(model.config, "initializer_range", None) or model.config.init_std
            torch.nn.init.normal_(part.weight, std=std)
            torch.nn.init.zeros_(part.bias)
    return model.eval()


def labels(emotions: list[str]) -> dict[str, dict]:
    """The names of a classification model's logits, in transformers' words."""
    return {"id2label": dict(enumerate(emotions)), "label2id": {name: place for place, name in enumerate(emotions)}}


def load_feature_extractor(checkpoint: Checkpoint):
    """The feature extractor that the checkpoint states, else the architecture's default."""
    import transformers

    if (checkpoint.folder / "preprocessor_config.json").is_file():
        return read_feature_extractor(checkpoint.folder)
    if checkpoint.config["model_type"] == "whisper":
        return transformers.WhisperFeatureExtractor(feature_size=checkpoint.config.get("num_mel_bins", 80))
    return transformers.Wav2Vec2FeatureExtractor()


def read_feature_extractor(folder: Path):
    """The feature extractor that a folder states; SerError where it is damaged, or names a program of its own."""
    import transformers

    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        int(extractor.sampling_rate)
    # The file may hold anything.
    except Exception as error:
        advice = "No program that comes with a model is ever run: take the preprocessor_config.json of the stock model."
        raise damaged(folder / "preprocessor_config.json", error, advice) from error
    return extractor


def save_model(model, feature_extractor, folder: Path) -> None:
    """Write a model, as one file of weights, and its feature extractor; OSError where the disk is full or read-only."""
    with disk_errors(folder):
        with quiet_transformers():
            model.save_pretrained(folder, max_shard_size="1TB")
        feature_extractor.save_pretrained(folder)


@contextmanager
def disk_errors(folder: Path):
    """Raise OSError where safetensors or PyTorch cannot write; both hide the system's error number."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        reason = str(error).splitlines()[0][:200]
        raise OSError(errno.EIO, f"the model cannot be written ({reason}); is the disk full?", str(folder)) from error


def check_sampling_rate(checkpoint: Checkpoint, feature_extractor, sampling_rate: int) -> None:
    """Raise SerError where an encoder reads another sampling rate, in Hz, than the recipe's."""
    if sampling_rate != (reads := feature_extractor.sampling_rate):
        stated = f"input.audio.sampling_rate is {sampling_rate}"
        raise SerError(f"{checkpoint.name} reads {reads} Hz, but {stated}: set it to {reads}.")


@contextmanager
def quiet_transformers():
    """Silence messages of transformers, peft and PyTorch on which a user cannot act; SerError reports faulty weights."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
            warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _is_repository(encoder: str) -> bool:
    """Whether a text has the form `name` or `owner/name`."""
    return bool(re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", encoder))


def _folder(encoder: str) -> Path:
    if "$" in encoder:
        advice = "Variables are expanded only in what you type: --set 'input.encoder=$VARIABLE'"
        raise SerError(f"input.encoder={encoder} stands in a file, where no variable is expanded. {advice}.")
    folder = with_home(encoder)
    if not folder.is_dir():
        raise SerError(f"{folder} is no folder: expected one with config.json and model.safetensors.")
    if not _weights(folder):
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        if not pickled:
            raise SerError(f"{folder} holds no weights: expected model.safetensors beside config.json.")
        held = f"{folder} holds only pickled weights ({', '.join(pickled)})"
        raise SerError(f"{held}, which {REFUSED}. {CONVERT}, or take the safetensors of the same model from the Hub.")
    return folder


def _weights(folder: Path) -> list[Path]:
    """The files with weights that transformers loads; [] where one of them is missing."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    files = [whole]
    # transformers looks at the index only where there is no such file.
    if index.is_file() and not whole.is_file():
        try:
            files = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
        except (KeyError, TypeError, AttributeError) as error:
            raise damaged(index, "it names no files with weights", "Copy the encoder again.") from error
    return files if all(file.is_file() for file in files) else []


def _digest(folder: Path) -> str:
    """A hash of configuration, preprocessing and weights: everything that results depend on."""
    digest = hashlib.sha256()
    weights = _weights(folder)
    index = [] if weights == [folder / "model.safetensors"] else [folder / "model.safetensors.index.json"]
    for path in [*sorted(folder.glob("*config.json")), *index, *weights]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _repository(name: str, revision: str) -> Path:
    """The folder in the Hub's cache of a commit, or of the Hub's own conversion of the commit's pickled weights."""
    # Conversions that were found before, so that the Hub's cache works without a network.
    path = cache_dir() / "conversions.json"
    known = {}
    # What is not known, or damaged, is asked for again.
    with suppress(SerError):
        known = dict(read_json(path))
    folder = _snapshot(name, known.get(f"{name}@{revision}", revision))
    if not _weights(folder):
        converted = _find_conversion(name, folder.name)
        if converted is None:
            held = f"{name} at {revision} holds no safetensors, and the Hub has not converted its weights"
            raise SerError(f"{held}. Pickled weights {REFUSED}. {CONVERT}, and name that folder with input.encoder=…")
        folder = _snapshot(name, converted)
        write_text(json.dumps(known | {f"{name}@{revision}": converted}, indent=1), path)
    return folder


def _snapshot(name: str, revision: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    shown = f"the Hub shows no {name} at revision {revision}, and no folder of that name lies here"
    advice = "Check input.encoder and input.revision; for a private repository, `hf auth login`."
    wanted = {"revision": revision, "allow_patterns": FILES}
    with suppress(errors.LocalEntryNotFoundError, errors.HFValidationError):
        cached = Path(snapshot_download(name, local_files_only=True, **wanted))
        # An interrupted download leaves a folder without its weights.
        if _weights(cached) and (cached / "config.json").is_file():
            return cached
    with hub_errors(SerError(f"{shown}. {_acoustic(name)}{advice}"), _unreachable(name, revision)):
        fetched = Path(snapshot_download(name, **wanted))
    # Without a network: the part that an interrupted download left.
    if not (fetched / "config.json").is_file():
        raise _unreachable(name, revision)
    return fetched


@contextmanager
def hub_errors(unknown: SerError, unreachable: SerError):
    """Raise one of these where the Hub does not show what is asked for, or cannot be reached; its warnings are silenced."""
    import logging

    from huggingface_hub import errors

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise unknown from error
    except (OSError, errors.HTTPError) as error:
        raise unreachable from error
    finally:
        logger.setLevel(level)


def _acoustic(name: str) -> str:
    """A question for who meant acoustic features, such as "mfcc-20" for `input.encoder=mfcc input.n_mfcc=20`."""
    return did_you_mean(name, ACOUSTIC_FEATURES).capitalize()


def _unreachable(name: str, revision: str) -> SerError:
    return SerError(
        f"{name} at revision {revision} is not in the Hub's cache, as safetensors, and the Hub cannot be reached. "
        f"{_acoustic(name)}Use a folder that holds it, with `--set input.encoder=/path/to/it`; the caches of a machine "
        "with a network, named in HF_HOME and SER_CACHE_DIR; or a network."
    )


def _find_conversion(name: str, commit: str) -> str | None:
    """The commit of the converter's pull request that converts this commit's pickled weights; None where there is none."""
    from huggingface_hub import HfApi, errors

    hub = HfApi()

    def contents(revision: str) -> dict[str, str]:
        paths = ["config.json", "pytorch_model.bin", "model.safetensors"]
        return {file.path: file.blob_id for file in hub.get_paths_info(name, paths, revision=revision)}

    try:
        pickled = contents(commit)
        filters = {"author": CONVERTER, "discussion_type": "pull_request", "discussion_status": "open"}
        for request in hub.get_repo_discussions(name, **filters):
            # Not left to the Hub's filter. It must belong to the files of this commit, not to those of a later one.
            converted = contents(request.git_reference) if request.author == CONVERTER else {}
            if converted.pop("model.safetensors", None) and converted == pickled:
                return hub.model_info(name, revision=request.git_reference).sha
    except (OSError, errors.HTTPError) as error:
        raise _unreachable(name, commit) from error
    return None
