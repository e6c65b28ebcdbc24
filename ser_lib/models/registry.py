"""From the settings of a recipe to its model. Importing this module enters every model into `base.MODELS`."""

from ser_lib.audio.features import ACOUSTIC_FEATURES
from ser_lib.models.acoustic_network import AcousticNetwork
from ser_lib.models.base import MODELS, Model, registered
from ser_lib.models.finetuned_encoder import FinetunedEncoder
from ser_lib.models.frozen_encoder import FrozenEncoder
from ser_lib.models.settings import Input, ModelSettings, Training

__all__ = ["MODELS", "FinetunedEncoder", "create_model", "model_class"]


def model_class(input: Input, settings: ModelSettings) -> type[Model]:
    """The class of model that these settings describe.

    Raises:
        SerError: no model has that name.
    """
    entry = registered(settings.name)
    if issubclass(entry, Model):
        return entry
    return AcousticNetwork if input.encoder in ACOUSTIC_FEATURES else FrozenEncoder


def create_model(input: Input, settings: ModelSettings, training: Training) -> Model:
    """A model without weights.

    Raises:
        SerError: no model has that name, or the settings do not fit together.
    """
    return model_class(input, settings)(input, settings, training)
