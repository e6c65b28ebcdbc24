"""Fine-tune a pretrained encoder with a classification head, through the Trainer of transformers.

Random numbers depend on (seed, epoch, clip or process) only. On a CPU a seed therefore repeats every digit for the same
number of threads and processes, whether the training was interrupted or not; on a GPU the last digits differ.
"""

import gc
import json
import logging
import math
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from ser_lib.audio.augmentation import augment
from ser_lib.common import distributed
from ser_lib.common.devices import pick_device, pick_precision
from ser_lib.common.errors import SerError
from ser_lib.common.hashing import hash_of
from ser_lib.models import audio_classifier, encoder_weights
from ser_lib.models.base import Model
from ser_lib.models.hidden_states import batching_mode, samples_of
from ser_lib.models.network_training import (
    COLUMNS,
    VALIDATION,
    balanced_weights,
    best_row,
    private_randomness,
    summed_loss,
)

logger = logging.getLogger(__name__)

SCHEDULES = {"linear": "linear", "cosine": "cosine", "none": "constant_with_warmup"}
# Label of a dummy clip on an idle process; ignored in the loss.
NO_LABEL = -100


@dataclass
class Finetuning:
    """One fine-tuning with AdamW and cross-entropy, with the arguments of `Model.fit`. `run` trains.

    Killed at any moment and run again with the same arguments, it resumes from the last checkpoint that was written
    completely. Out of GPU memory, it continues with smaller batches and more of them to a step. `training.batch_size`
    counts the clips of all processes together; validation is computed in float32. `folder` holds the checkpoints of the
    best epoch and the last, and a third while it is being written, each three times as large as the model.
    """

    owner: Model
    waveforms: list[np.ndarray]
    labels: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    emotions: list[str]
    seed: int
    folder: Path
    progress: bool
    description: str

    def __post_init__(self):
        training, n_processes = self.owner.training, distributed.world_size()
        self.clips_a_process, rest = divmod(training.batch_size, n_processes)
        if rest or not self.clips_a_process:
            batch = f"training.batch_size={training.batch_size} cannot be divided among {n_processes} processes"
            raise SerError(f"{batch}: set it to a multiple of {n_processes}.")
        self.training, self.accumulation = training, training.gradient_accumulation
        self.device = pick_device(training.device)
        self.precision = pick_precision(training.precision, self.device)
        if training.precision not in ("auto", self.precision):
            names = self.device.type, training.precision, self.precision
            logger.warning("a %s does not train in %s: %s is used", *names)
        self.checkpoints = Path(self.folder) / "checkpoints"
        _, rows = _last_checkpoint(self.checkpoints)
        self.started, self.seconds_before = time.monotonic(), rows[-1]["seconds"] if rows else 0.0

    def run(self) -> tuple[nn.Module, object, pd.DataFrame]:
        """Train.

        Returns:
            the model of the best epoch in float32, in evaluation mode, on the CPU; its feature extractor; and the columns
            of `network_training.fit`, learning_rate being the encoder's in the epoch's last step. Its `attrs` hold
            `seconds_before`: the time spent on epochs before an interruption.
        """
        used = [self.waveforms[row] for row in [*self.train, *self.validation]]
        hide_bar = not self.progress or not distributed.is_first()
        bar = tqdm(desc=f"{self.description}, steps", unit="step", leave=False, disable=hide_bar)
        with private_randomness(), encoder_weights.quiet_transformers(), bar:
            while True:
                model, feature_extractor = self._build(used)
                audio_classifier.warn_of_cuts(feature_extractor, used)
                try:
                    trained_part = audio_classifier.choose_trainable(model, self.owner.settings)
                    self._train(trained_part, feature_extractor, bar)
                    break
                except torch.cuda.OutOfMemoryError as error:
                    self._halve_batches(error)
                # Not above, where the error still holds what fills the memory.
                del model, trained_part
                gc.collect()
                torch.cuda.empty_cache()
            distributed.wait()
            rows = _last_checkpoint(self.checkpoints)[1]
            history = pd.DataFrame(rows)
            history["best"] = history["epoch"] == self.best_epoch(rows)
            best = self.checkpoints / f"checkpoint-{history.loc[history['best'], 'step'].iloc[0]}"
            if self.owner.settings.trainable == "lora":
                from peft import PeftModel

                model = PeftModel.from_pretrained(self._build(used)[0], best).merge_and_unload().eval()
            else:
                model = audio_classifier.load(best)[0]
            # The caller of the first process may delete the folder at once.
            distributed.wait()
        history = history[COLUMNS]
        history.attrs["seconds_before"] = self.seconds_before
        return model, feature_extractor, history

    def _build(self, used: list[np.ndarray]) -> tuple[nn.Module, object]:
        torch.manual_seed(self.seed)
        audio = self.owner.input.audio
        seconds = audio.max_seconds or max(map(len, used)) / audio.sampling_rate
        checkpoint = encoder_weights.locate(self.owner.input.encoder, self.owner.input.revision)
        masks = self.training.spec_augment
        return audio_classifier.build(checkpoint, self.emotions, audio.sampling_rate, seconds, masks)

    def _train(self, model: nn.Module, feature_extractor, bar: tqdm) -> None:
        """Run the Trainer to its end, from the last complete checkpoint if there is one; checkpoints are the result."""
        training, (last, rows) = self.training, _last_checkpoint(self.checkpoints)
        if rows and self.is_finished(rows):
            return
        if training.gradient_checkpointing:
            # transformers 5.0 has the old name alone, of which later ones warn.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        batches = _Batches(self, model, feature_extractor)
        steps = math.ceil(len(batches) / self.accumulation) * training.epochs
        on_cpu = self.device.type == "cpu"
        silent = {"disable_tqdm": True, "report_to": "none", "log_level": "error", "logging_strategy": "no"}
        kept = {"eval_strategy": "epoch", "save_strategy": "epoch", "save_total_limit": 2, "greater_is_better": True}
        arguments = TrainingArguments(
            **silent,
            **kept,
            metric_for_best_model="best_epoch",
            output_dir=str(self.checkpoints),
            num_train_epochs=training.epochs,
            per_device_train_batch_size=self.clips_a_process,
            gradient_accumulation_steps=self.accumulation,
            learning_rate=training.learning_rate,
            lr_scheduler_type=SCHEDULES[training.scheduler],
            warmup_steps=round(training.warmup_fraction * steps),
            max_grad_norm=training.clip_norm or 0,
            bf16=self.precision == "bf16",
            fp16=self.precision == "fp16",
            # `_loss` raises an error instead.
            logging_nan_inf_filter=False,
            # The loss is a mean over the step's clips on all devices.
            average_tokens_across_devices=True,
            # Such as those of a layer that is dropped for a step.
            ddp_find_unused_parameters=True,
            ddp_backend="gloo" if distributed.world_size() > 1 and on_cpu else None,
            use_cpu=on_cpu,
        )
        # Several GPUs are for several processes.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        tuner = _Tuner(batches, arguments, bar)
        bar.total, bar.n = steps, rows[-1]["step"] if rows else 0
        bar.refresh()
        with encoder_weights.disk_errors(self.checkpoints):
            tuner.train(resume_from_checkpoint=str(last) if last else None)

    def _halve_batches(self, error: Exception) -> None:
        """Fewer clips at a time, as many in a step as before."""
        clips = self.clips_a_process
        if clips == 1 or distributed.world_size() > 1:
            text = f"{clips} clips at a time do not fit into the GPU's memory: lower training.batch_size or"
            advice = "input.audio.max_seconds, or set training.gradient_checkpointing=true."
            raise SerError(f"{text} {advice}") from error
        divisor = next(number for number in range(2, clips + 1) if clips % number == 0)
        self.clips_a_process //= divisor
        self.accumulation *= divisor
        text = "out of GPU memory with %d clips at a time: continuing from the last checkpoint with %d, %d times a step"
        logger.warning(text, clips, self.clips_a_process, self.accumulation)

    def best_epoch(self, history: list[dict]) -> int:
        """The epoch, from 1, whose weights are kept: that of `best_row`; without `keep_best` the last."""
        return history[best_row(history) if self.training.keep_best else -1]["epoch"]

    def is_finished(self, history: list[dict]) -> bool:
        """Whether all epochs are trained, or `patience` is used up."""
        epoch, patience = history[-1]["epoch"], self.training.patience
        used_up = patience is not None and len(history) - 1 - best_row(history) >= patience
        return epoch >= self.training.epochs or used_up


class _Batches:
    """The batches of an epoch, this process's part of each; a thread prepares the next one while the model computes."""

    def __init__(self, job: Finetuning, model: nn.Module, feature_extractor):
        self.job, self.model, self.feature_extractor = job, model, feature_extractor
        self.epoch, self.clips = 0, job.clips_a_process * distributed.world_size()
        # Samples. SpecAugment refuses a batch that is shorter than one masked part.
        masked = batching_mode(model) != "log_mel" and model.config.apply_spec_augment
        self.shortest = samples_of(model, model.config.mask_time_length) if masked else 0

    # The Trainer calls this before each epoch.
    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.job.train) / self.clips)

    def __iter__(self) -> Iterator[dict]:
        seed, n_clips = self.job.seed, len(self.job.train)
        order = np.random.default_rng([seed, self.epoch]).permutation(self.job.train)
        batches = np.split(order, range(self.clips, n_clips, self.clips))
        # Here and not before: the Trainer restores random states of its own when it resumes from a checkpoint.
        set_seed(hash_of(seed, self.epoch, distributed.rank()) % 2**32)
        with ThreadPoolExecutor(1) as thread:
            submitted = (thread.submit(self._batch, rows) for rows in batches)
            for ready, _ in pairwise(chain(submitted, [Future()])):
                yield ready.result()

    def _batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        job, augmentation = self.job, self.job.training.augmentation
        part = distributed.share(rows.tolist())
        truth = torch.from_numpy(job.labels[part].astype(np.int64))
        # Fewer clips are left than there are processes.
        if not part:
            part, truth = rows[:1].tolist(), torch.tensor([NO_LABEL])
        waveforms = [job.waveforms[row] for row in part]
        if augmentation is not None:
            rate, ranges = job.owner.input.audio.sampling_rate, augmentation.model_dump(exclude_defaults=True)
            generators = [np.random.default_rng([job.seed, self.epoch, row]) for row in part]
            both = zip(waveforms, generators, strict=True)
            waveforms = [augment(waveform, rate, **ranges, rng=rng) for waveform, rng in both]
        # The length of all processes' clips, since some models read the padding.
        length = max(self.shortest, *(len(job.waveforms[row]) for row in rows))
        return audio_classifier.collate(self.model, self.feature_extractor, waveforms, length) | {"labels": truth}


class _Tuner(Trainer):
    """The Trainer with batches, optimiser, loss and validation of this project."""

    def __init__(self, batches: _Batches, arguments: TrainingArguments, bar: tqdm):
        self.job, self.batches, self.bar = batches.job, batches, bar
        job = self.job
        # Summed loss, right answers, clips of this epoch.
        self.sums = np.zeros(3)
        self.steps_an_epoch = math.ceil(len(batches) / job.accumulation)
        weights = torch.from_numpy(balanced_weights(job.labels[job.train], len(job.emotions))).float().to(job.device)
        self.class_weights = weights if job.training.class_weights else None
        parts = {"processing_class": batches.feature_extractor, "compute_loss_func": self._loss}
        super().__init__(batches.model, arguments, eval_dataset=job.validation, **parts)
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> _Batches:
        return self.batches

    def create_optimizer(self, *_):
        training = self.job.training
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = defaultdict(list)
        decayed = set(self.get_decay_parameter_names(self.model))
        for name, weight in self.model.named_parameters():
            if weight.requires_grad:
                groups[audio_classifier.in_head(name), name in decayed].append(weight)
        rates = training.learning_rate, training.head_learning_rate or training.learning_rate
        settings = [
            {"params": weights, "lr": rates[head], "weight_decay": training.weight_decay * decays}
            for (head, decays), weights in sorted(groups.items())
        ]
        self.optimizer = torch.optim.AdamW(settings, fused=True)
        return self.optimizer

    def _loss(self, outputs, truth: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        loss = summed_loss(outputs.logits, truth, self.class_weights, ignore_index=NO_LABEL)
        # Before the schedule changes it.
        self.rate = self.optimizer.param_groups[0]["lr"]
        if not torch.isfinite(loss):
            step = self.state.global_step % self.steps_an_epoch + 1
            better = {"fp16": "bf16 or float32", "bf16": "float32"}.get(self.job.precision)
            lower = f"Set training.precision={better}, lower" if better else "Lower"
            raise SerError(
                f"the training loss became {loss.item()} in epoch {self.batches.epoch + 1}, step {step}, at learning "
                f"rate {self.rate:g}, in {self.job.precision}. {lower} training.learning_rate, or limit the gradient "
                "with training.clip_norm=1.0; if it happens in the first step, look for NaN in the audio."
            )
        right = (outputs.logits.argmax(dim=1) == truth).sum()
        self.sums += loss.item(), right.item(), (truth != NO_LABEL).sum().item()
        self.bar.update(self.state.global_step - self.bar.n)
        return loss / num_items_in_batch

    def evaluate(self, *_, **__) -> dict[str, float]:
        loss, right, n_clips = np.sum(distributed.gather([self.sums]), axis=0).tolist()
        self.sums = np.zeros(3)
        self.bar.update(self.state.global_step - self.bar.n)
        row = {"epoch": self.batches.epoch + 1, "step": self.state.global_step, "learning_rate": self.rate}
        row["seconds"] = self.job.seconds_before + time.monotonic() - self.job.started
        row |= {"train_loss": loss / n_clips, "train_accuracy": right / n_clips} | self._validated()
        # Goes into the checkpoint, with every digit.
        history = self.state.log_history
        history.append(row)
        scores = {"loss": f"{row['train_loss']:.3f}", "validation_uar": f"{row['validation_uar']:.3f}"}
        self.bar.set_postfix(scores, refresh=False)
        self.control.should_training_stop |= self.job.is_finished(history)
        # The Trainer keeps the checkpoint with the highest value, and this value rises exactly with a new best epoch.
        return {"eval_best_epoch": self.job.best_epoch(history)}

    def _validated(self) -> dict[str, float]:
        """Unweighted cross-entropy, accuracy and UAR on the validation clips, divided among the processes."""
        job, rows = self.job, self.job.validation
        if len(rows) == 0:
            return dict.fromkeys(VALIDATION, math.nan)
        waveforms = [job.waveforms[row] for row in rows]
        model = self.model, self.processing_class
        answers = audio_classifier.shared_probabilities(*model, waveforms, batch_size=2 * job.clips_a_process)
        truth = job.labels[rows]
        right = answers.argmax(axis=1) == truth
        of_truth = np.maximum(answers[np.arange(len(rows)), truth], np.finfo(float).tiny)
        uar = np.mean([right[truth == emotion].mean() for emotion in np.unique(truth)])
        scores = -np.log(of_truth).mean(), right.mean(), uar
        return dict(zip(VALIDATION, map(float, scores), strict=True))


def _last_checkpoint(folder: Path) -> tuple[Path | None, list[dict]]:
    """The newest complete checkpoint and its history, one row an epoch; incomplete ones are deleted."""
    last, rows = None, []
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])):
        try:
            # The file that the Trainer writes last.
            rows = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
            last = checkpoint
        except (OSError, ValueError):
            if distributed.is_first():
                shutil.rmtree(checkpoint, ignore_errors=True)
    distributed.wait()
    return last, rows
