"""Fine-tune a pretrained encoder with a classification head, through transformers' own Trainer.

Chance (order, dropout, augmentation) is drawn from (seed, epoch, clip or process), never from what happened before.
On a CPU a seed therefore repeats every digit for the same number of threads and processes, in one go or killed and
resumed. On a GPU sums have no fixed order, and the last digits differ.
"""

import gc
import json
import logging
import math
import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from ser_lib.audio.augmentation import augment
from ser_lib.common import distributed
from ser_lib.common.devices import pick_device, pick_precision
from ser_lib.common.errors import SerError
from ser_lib.common.hashing import hash_of
from ser_lib.models import encoder_weights, finetuned_encoder
from ser_lib.models.hidden_states import samples_of, way_of
from ser_lib.models.network_training import COLUMNS, VALIDATION, balanced_weights

logger = logging.getLogger(__name__)

SCHEDULES = {"linear": "linear", "cosine": "cosine", "none": "constant_with_warmup"}
NO_LABEL = -100  # of a clip that only keeps a process busy: it counts in no sum


def finetune(
    encoder: str,
    revision: str | None,
    waveforms: list[np.ndarray],
    labels: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    emotions: list[str],
    folder: Path,
    *,
    seconds: float | None = None,
    sampling_rate: int = 16000,
    trainable: str = "all",
    lora_rank: int = 8,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    head_learning_rate: float | None = None,
    weight_decay: float = 0.0,
    scheduler: str = "linear",
    warmup_fraction: float = 0.0,
    patience: int | None = None,
    keep_best: bool = True,
    clip_norm: float | None = None,
    class_weights: bool = False,
    gradient_accumulation: int = 1,
    gradient_checkpointing: bool = False,
    precision: str = "auto",
    spec_augment: bool | None = None,
    augmentation: dict | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
    description: str = "fine-tuning",
) -> tuple[nn.Module, object, pd.DataFrame]:
    """Fine-tune an encoder with AdamW and cross-entropy; what is returned has the weights of its best epoch.

    Killed at any moment and called again with the same arguments, it goes on from the last checkpoint that was
    written whole. Out of GPU memory, it goes on with smaller batches and more of them to a step.

    Args:
        encoder, revision: as `ser_lib.models.encoder_weights.locate` takes them.
        waveforms: all clips at `sampling_rate`, prepared as the model is to hear them.
        labels: int, position of each clip's emotion among `emotions`.
        train, validation: row numbers; `validation` may be empty.
        folder: for checkpoints of these very arguments: the best epoch's, the last, and a third while it is being
            written, each three times as large as the model. The caller deletes it.
        seconds: the length that Whisper's input is padded or cut to, see `finetuned_encoder.build`; None: that of the
            longest clip.
        trainable: "all"; "transformer", without the convolutions that read the signal; "head", without the encoder;
            "lora", low-rank additions to the attention's queries and values (in WavLM to the feed-forward layers)
            and the head, merged at the end.
        batch_size: clips a batch, over all processes together; a step takes `gradient_accumulation` batches.
        head_learning_rate: None: as the encoder's.
        weight_decay: not of biases and normalisations.
        scheduler: "linear" or "cosine" to 0 over all epochs, or "none"; each after `warmup_fraction` of all steps.
        patience, keep_best, clip_norm: as of `ser_lib.models.network_training.fit`.
        class_weights: weight the training loss by `balanced_weights`.
        gradient_checkpointing: compute activations twice instead of keeping them: slower, in less memory.
        precision: of training, see `pick_precision`; validation is in float32.
        spec_augment: see `finetuned_encoder.build`.
        augmentation: arguments of `ser_lib.audio.augmentation.augment`, for training clips.

    Returns:
        the model in float32, in evaluation mode, on the CPU; its feature extractor; and the columns of
        `training.fit`, learning_rate being the encoder's in the epoch's last step. Its `attrs` hold
        `seconds_before`: what was spent on the epochs before an interruption.

    Raises:
        SerError: the encoder is not to be had, an argument does not fit it or the clips, the loss became NaN or
            infinite, or the smallest batch does not fit into the GPU's memory.
    """
    given = SimpleNamespace(**locals())
    if scheduler not in SCHEDULES:
        raise SerError(f"unknown training.scheduler {scheduler!r}: fine-tuning has {', '.join(SCHEDULES)}.")
    if len(train) == 0:
        raise SerError("there are no training clips: check the corpora, emotions and protocol.")
    given.clips_a_process, rest = divmod(batch_size, distributed.world_size())
    if rest or not given.clips_a_process:
        raise SerError(
            f"training.batch_size={batch_size} cannot be divided among {distributed.world_size()} processes: set it "
            f"to a multiple of {distributed.world_size()}."
        )
    given.device = pick_device(device)
    given.precision = pick_precision(precision, given.device)
    if precision not in ("auto", given.precision):
        logger.warning("a %s does not train in %s: %s is used", given.device.type, precision, given.precision)
    used = [waveforms[row] for row in [*train, *validation]]
    longest = max(map(len, used)) / sampling_rate
    checkpoint = encoder_weights.locate(encoder, revision)
    given.folder = Path(folder) / "checkpoints"
    resumed = _last_whole(given.folder)
    given.started, given.seconds_before = (time.monotonic(), _history(resumed)[-1]["seconds"] if resumed else 0.0)

    def build() -> tuple[nn.Module, object]:
        torch.manual_seed(seed)
        return finetuned_encoder.build(checkpoint, emotions, sampling_rate, seconds or longest, spec_augment)

    bar = tqdm(desc=description, unit="step", leave=False, disable=not progress or not distributed.is_first())
    with _own_randomness(), bar:
        while True:
            model, feature_extractor = build()
            finetuned_encoder.warn_of_cuts(feature_extractor, used)
            try:
                _train(given, finetuned_encoder.choose_trainable(model, trainable, lora_rank), feature_extractor, bar)
                break
            except torch.cuda.OutOfMemoryError as error:
                _halve_batches(given, error)
            # Now that the error is gone, which held on to what fills the memory.
            del model
            gc.collect()
            torch.cuda.empty_cache()
        distributed.wait()
        history = pd.DataFrame(_history(_last_whole(given.folder)))
        history["best"] = history["epoch"] == _best_epoch(history.to_dict("records"), keep_best)
        best = given.folder / f"checkpoint-{history.loc[history['best'], 'step'].iloc[0]}"
        if trainable == "lora":
            from peft import PeftModel

            model = PeftModel.from_pretrained(build()[0], best).merge_and_unload().eval()
        else:
            model = finetuned_encoder.load(best)[0]
        distributed.wait()  # the caller of the first process may delete the folder at once
    history = history[COLUMNS]
    history.attrs["seconds_before"] = given.seconds_before
    return model, feature_extractor, history


def _halve_batches(given: SimpleNamespace, error: Exception) -> None:
    """Fewer clips at a time, as many in a step as before."""
    clips = given.clips_a_process
    if clips == 1 or distributed.world_size() > 1:
        raise SerError(
            f"{clips} clips at a time do not fit into the GPU's memory: lower training.batch_size or "
            "input.audio.max_seconds, or set training.gradient_checkpointing=true."
        ) from error
    divisor = next(number for number in range(2, clips + 1) if clips % number == 0)
    given.clips_a_process //= divisor
    given.gradient_accumulation *= divisor
    logger.warning(
        "out of GPU memory with %d clips at a time: going on from the last checkpoint with %d, %d times a step",
        clips,
        given.clips_a_process,
        given.gradient_accumulation,
    )


def _train(given: SimpleNamespace, model: nn.Module, feature_extractor, bar: tqdm) -> None:
    """Run the Trainer to the end, from the last whole checkpoint if there is one; its checkpoints are the result.

    Args:
        given: the arguments of `finetune`, resolved.
    """
    last = _last_whole(given.folder)
    so_far = _history(last) if last else []
    if so_far and _is_finished(so_far, given):
        return
    if given.gradient_checkpointing:
        # It was called after the gradient before transformers 5.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    batches = _Batches(given, model, feature_extractor)
    steps = math.ceil(len(batches) / given.gradient_accumulation) * given.epochs
    arguments = TrainingArguments(
        output_dir=str(given.folder),
        num_train_epochs=given.epochs,
        per_device_train_batch_size=given.clips_a_process,
        gradient_accumulation_steps=given.gradient_accumulation,
        learning_rate=given.learning_rate,
        lr_scheduler_type=SCHEDULES[given.scheduler],
        warmup_steps=round(given.warmup_fraction * steps),
        max_grad_norm=given.clip_norm or 0,
        bf16=given.precision == "bf16",
        fp16=given.precision == "fp16",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="no",
        save_total_limit=2,
        metric_for_best_model="best_epoch",
        greater_is_better=True,
        logging_nan_inf_filter=False,  # an error of ours stops it instead
        average_tokens_across_devices=True,  # the loss is a mean over the step's clips, wherever they are
        ddp_find_unused_parameters=True,  # such as those of a layer that is dropped for a step
        ddp_backend="gloo" if distributed.world_size() > 1 and given.device.type == "cpu" else None,
        use_cpu=given.device.type == "cpu",
        disable_tqdm=True,
        report_to="none",
        log_level="error",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs are for several processes
    trainer = _Tuner(given, batches, model, arguments, feature_extractor, bar)
    bar.total, bar.n = steps, so_far[-1]["step"] if so_far else 0
    bar.refresh()
    trainer.train(resume_from_checkpoint=str(last) if last else None)


class _Batches:
    """The batches of an epoch, this process's part of each; the next one is prepared in a thread beside the model."""

    def __init__(self, given: SimpleNamespace, model: nn.Module, feature_extractor):
        self.given, self.model, self.feature_extractor = given, model, feature_extractor
        self.epoch = 0
        self.clips = given.clips_a_process * distributed.world_size()
        self.shortest = 0  # samples
        if way_of(model) != "whisper" and model.config.apply_spec_augment:
            # SpecAugment refuses a batch that is shorter than what it masks at a time.
            self.shortest = samples_of(model, model.config.mask_time_length)

    def __len__(self) -> int:
        return math.ceil(len(self.given.train) / self.clips)

    def __iter__(self) -> Iterator[dict]:
        seed, n_clips = self.given.seed, len(self.given.train)
        order = np.random.default_rng([seed, self.epoch]).permutation(self.given.train)
        batches = np.split(order, range(self.clips, n_clips, self.clips))
        # Here and not before: the Trainer restores random states of its own when it goes on from a checkpoint.
        set_seed(hash_of(seed, self.epoch, distributed.rank()) % 2**32)
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(self._batch, batches[0])
            for following in [*batches[1:], None]:
                ready = coming.result()
                coming = following is not None and thread.submit(self._batch, following)
                yield ready

    def _batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        given = self.given
        own = distributed.share(rows)
        truth = torch.from_numpy(given.labels[own].astype(np.int64))
        if not own:  # fewer clips are left than there are processes
            own, truth = rows[:1], torch.tensor([NO_LABEL])
        heard = [given.waveforms[row] for row in own]
        if given.augmentation is not None:
            chance = [np.random.default_rng([given.seed, self.epoch, row]) for row in own]
            heard = [
                augment(waveform, given.sampling_rate, **given.augmentation, rng=rng)
                for waveform, rng in zip(heard, chance, strict=True)
            ]
        # As long as all processes' clips, since padding is heard where nothing masks it.
        length = max(self.shortest, *(len(given.waveforms[row]) for row in rows))
        return finetuned_encoder.collate(self.model, self.feature_extractor, heard, length) | {"labels": truth}


class _Tuner(Trainer):
    """The Trainer with batches, optimiser, loss and validation of our own."""

    def __init__(self, given, batches: _Batches, model, arguments, feature_extractor, bar: tqdm):
        self.given, self.batches, self.bar = given, batches, bar
        self.steps_an_epoch = math.ceil(len(batches) / given.gradient_accumulation)
        self.class_weights = None
        if given.class_weights:
            weights = balanced_weights(given.labels[given.train], len(given.emotions))
            self.class_weights = torch.tensor(weights, dtype=torch.float32, device=given.device)
        super().__init__(
            model,
            arguments,
            eval_dataset=given.validation,
            processing_class=feature_extractor,
            compute_loss_func=self._loss,
        )
        self.remove_callback(PrinterCallback)
        self.add_callback(_Steps(self))

    def get_train_dataloader(self) -> _Batches:
        return self.batches

    def create_optimizer(self, *_):
        given, groups = self.given, {}
        decayed = set(self.get_decay_parameter_names(self.model))
        for name, weight in self.model.named_parameters():
            if weight.requires_grad:
                groups.setdefault((finetuned_encoder.in_head(name), name in decayed), []).append(weight)
        rates = given.learning_rate, given.head_learning_rate or given.learning_rate
        self.optimizer = torch.optim.AdamW(
            [
                {"params": weights, "lr": rates[head], "weight_decay": given.weight_decay * decays}
                for (head, decays), weights in sorted(groups.items())
            ],
            fused=True,
        )
        return self.optimizer

    def _loss(self, outputs, truth: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.cross_entropy(
            outputs.logits, truth, self.class_weights, ignore_index=NO_LABEL, reduction="sum"
        )
        if not torch.isfinite(loss):
            step = self.state.global_step % self.steps_an_epoch + 1
            better = {"fp16": "bf16 or float32", "bf16": "float32"}.get(self.given.precision)
            raise SerError(
                f"the training loss became {loss.item()} in epoch {self.batches.epoch + 1}, step {step}, at learning "
                f"rate {self.optimizer.param_groups[0]['lr']:g}, in {self.given.precision}. "
                + (f"Set training.precision={better}, lower" if better else "Lower")
                + " training.learning_rate, or limit the gradient with training.clip_norm=1.0; if it happens in the "
                "first step, look for NaN in the audio."
            )
        right = (outputs.logits.argmax(dim=1) == truth).sum()
        self.seen += loss.item(), right.item(), (truth != NO_LABEL).sum().item()
        return loss / num_items_in_batch

    def evaluate(self, *_, **__) -> dict[str, float]:
        loss, right, n_clips = np.sum(distributed.gather([self.seen]), axis=0).tolist()
        row = {"epoch": self.batches.epoch + 1, "step": self.state.global_step, "learning_rate": self.rate}
        row["seconds"] = self.given.seconds_before + time.monotonic() - self.given.started
        row |= {"train_loss": loss / n_clips, "train_accuracy": right / n_clips} | self._validated()
        history = self.state.log_history  # goes into the checkpoint, with every digit
        history.append(row)
        self.bar.set_postfix(
            loss=f"{row['train_loss']:.3f}", validation_uar=f"{row['validation_uar']:.3f}", refresh=False
        )
        self.control.should_training_stop |= _is_finished(history, self.given)
        # Whatever makes an epoch the best, this rises exactly then.
        return {"eval_best_epoch": _best_epoch(history, self.given.keep_best)}

    def _validated(self) -> dict[str, float]:
        """Unweighted cross-entropy, accuracy and UAR on the validation clips, divided among the processes."""
        given, rows = self.given, list(map(int, self.given.validation))
        if not rows:
            return dict.fromkeys(VALIDATION, math.nan)
        heard = [given.waveforms[row] for row in rows]
        answers = shared_probabilities(self.model, self.processing_class, heard, batch_size=2 * given.clips_a_process)
        truth = given.labels[rows]
        right = answers.argmax(axis=1) == truth
        certainty = np.maximum(answers[np.arange(len(rows)), truth], np.finfo(float).tiny)
        uar = np.mean([right[truth == emotion].mean() for emotion in np.unique(truth)])
        scores = -np.log(certainty).mean(), right.mean(), uar
        return dict(zip(VALIDATION, map(float, scores), strict=True))


def shared_probabilities(model: nn.Module, feature_extractor, waveforms: list[np.ndarray], **settings) -> np.ndarray:
    """`finetuned_encoder.probabilities`, the clips divided among the processes; every process gets all answers."""
    own = distributed.share(range(len(waveforms)))
    answers = finetuned_encoder.probabilities(
        model, feature_extractor, [waveforms[number] for number in own], **settings
    )
    answer_of = dict(distributed.gather(list(zip(own, answers, strict=True))))
    return np.stack([answer_of[number] for number in range(len(waveforms))])


class _Steps(TrainerCallback):
    """Keeps a tuner's accounts: the epoch, the rate of a step before the schedule moves it, the bar."""

    def __init__(self, tuner: _Tuner):
        self.tuner = tuner

    def on_epoch_begin(self, args, state, control, **_):
        self.tuner.batches.epoch = state.global_step // self.tuner.steps_an_epoch
        self.tuner.seen = np.zeros(3)  # summed loss, right answers, clips

    def on_optimizer_step(self, args, state, control, optimizer, **_):
        self.tuner.rate = optimizer.param_groups[0]["lr"]

    def on_step_end(self, args, state, control, **_):
        self.tuner.bar.update(state.global_step - self.tuner.bar.n)


def _last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what a kill left of one that was not is deleted."""
    found = None
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])):
        try:
            _history(checkpoint)
            found = checkpoint
        except (OSError, ValueError):
            if distributed.is_first():
                shutil.rmtree(checkpoint, ignore_errors=True)
    distributed.wait()
    return found


def _history(checkpoint: Path) -> list[dict]:
    """One row an epoch so far, from the file that the Trainer writes last into a checkpoint."""
    return json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]


def _best_epoch(history: list[dict], keep_best: bool) -> int:
    """The epoch, from 1, whose weights are kept: the highest UAR, then the lower loss; or the last."""
    if not keep_best or math.isnan(history[-1]["validation_uar"]):
        return history[-1]["epoch"]
    return max(history, key=lambda row: (row["validation_uar"], -row["validation_loss"]))["epoch"]


def _is_finished(history: list[dict], given: SimpleNamespace) -> bool:
    epoch = history[-1]["epoch"]
    spent = given.patience is not None and epoch - _best_epoch(history, given.keep_best) >= given.patience
    return epoch >= given.epochs or spent


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Give the global random states back as they were; the Trainer seeds all of them."""
    before = random.getstate(), np.random.get_state(), torch.backends.cudnn.deterministic  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), finetuned_encoder.quiet():
        torch.backends.cudnn.deterministic = True
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            torch.backends.cudnn.deterministic = before[2]
