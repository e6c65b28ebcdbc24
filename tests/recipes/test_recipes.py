import html
import inspect
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ser_lib.audio import augmentation, features, reading
from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA
from ser_lib.corpora.clips import load_clips
from ser_lib.models import encoder_weights, settings
from ser_lib.models import networks as models
from ser_lib.protocols import splits
from ser_lib.recipes import dump_recipe, load_recipe, read_resolved, recipe_names
from ser_lib.recipes import recipe as recipe_module
from ser_lib.reports.notebook_display import stated_recipe

TESS = ["tess-mfcc-bilstm", "tess-mfcc-cnn", "tess-mfcc-gru", "tess-mfcc-lstm"]


OWN = ("demo", "ravdess-mfcc-careful", "ravdess-whisper-logistic", "speech-emotion")  # nobody claims anything of these


@pytest.mark.parametrize("name", recipe_names())
class TestEveryRecipe:
    def test_loads_and_comes_back_from_its_resolved_form(self, name, tmp_path):
        recipe = load_recipe(name)
        (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
        assert read_resolved(tmp_path / "recipe.yaml") == recipe

    def test_names_corpora_that_are_registered(self, name):
        assert set(load_recipe(name).corpora) <= set(CORPORA)

    def test_says_what_is_claimed_and_where_unless_it_is_the_demonstration(self, name):
        recipe = load_recipe(name)
        assert name in OWN or (recipe.claim.source.startswith("https://") and recipe.claim.text)

    def test_has_an_as_run_variant_or_says_why_not(self, name):
        stated = load_recipe(name)
        if name not in (*OWN, "tess-mfcc-cnn", "tess-mfcc-bilstm", "four-corpora-xlsr53-finetune"):
            as_run = load_recipe(name, "as-run")
            assert as_run.folder_name == f"{name}-as-run" and as_run.variant_label == "as-run"
            assert as_run.training != stated.training and as_run.as_run_notes
        else:
            with pytest.raises(SerError, match=f"recipe {name} has no as-run variant"):
                load_recipe(name, "as-run")


def test_the_stated_recipes_follow_their_source():
    for name in TESS:
        recipe = load_recipe(name)
        assert (recipe.input.n_mfcc, recipe.input.pooling) == (40, "mean")
        assert recipe.input.audio.model_dump(include={"sampling_rate", "offset_seconds", "max_seconds"}) == {
            "sampling_rate": 22050,
            "offset_seconds": 0.5,
            "max_seconds": 3.0,
        }
        assert (recipe.model.hidden, recipe.model.dense) == (128, (64, 32))
        assert recipe.model.dropout == (0.3 if name.endswith("gru") else 0.2)
        assert 50 <= recipe.training.epochs <= 100 and recipe.training.patience
        assert recipe.split.keep_duplicates and recipe.split.stratify and recipe.split.test_fraction == 0.2
        assert recipe.claim.accuracy == 1.0


def test_the_encoder_recipes_follow_their_source():
    frozen, plateau, tess, four = map(
        load_recipe,
        (
            "ravdess-wav2vec2-frozen-mlp",
            "ravdess-wav2vec2-frozen-mlp-plateau",
            "tess-wav2vec2-finetune",
            "four-corpora-xlsr53-finetune",
        ),
    )
    for recipe in (frozen, plateau):
        assert (recipe.input.encoder, recipe.input.layers) == ("facebook/wav2vec2-base", "last")
        assert (recipe.input.pooling, recipe.input.standardise) == ("mean", False)
        assert (recipe.model.name, recipe.model.dense, recipe.model.dropout) == ("mlp", (256,), 0.3)
        assert (recipe.training.epochs, recipe.training.batch_size) == (10, 16)
        assert recipe.training.learning_rate == 1e-4 and recipe.training.patience
        assert (recipe.split.test_fraction, recipe.split.validation_fraction) == (0.15, 0.15)
    assert plateau.training.scheduler == "plateau" != frozen.training.scheduler != "none"
    subset = load_recipe(plateau.name, overrides=["emotions=[happy, sad, angry, neutral]"])
    assert subset.emotions == ("neutral", "happy", "sad", "angry")
    assert (tess.input.audio.max_seconds, tess.training.epochs, tess.training.batch_size) == (1.0, 3, 16)
    assert (four.input.audio.max_seconds, four.training.epochs, four.training.batch_size) == (2.0, 20, 32)
    assert four.training.precision == "fp16" and len(four.corpora) == 4
    assert (four.split.test_fraction, four.split.validation_fraction) == (0.1, 0.2)
    for recipe in (tess, four):
        assert (recipe.model.name, recipe.model.trainable) == ("finetune", "all")
        assert recipe.training.learning_rate == 2e-5 and recipe.input.audio.pad
    for recipe in (frozen, plateau, tess, four):
        assert len(recipe.input.revision) == 40  # a commit, not a branch that moves


def test_the_sections_are_the_arguments_of_the_functions_they_drive():
    def arguments(*functions):
        return {name for function in functions for name in inspect.signature(function).parameters}

    assert set(settings.Audio.model_fields) == arguments(reading.prepare) - {"source", "rng"}
    assert set(recipe_module.Split.model_fields) - {"keep_duplicates", "permute_labels"} == arguments(
        splits.make_split
    ) - {*("clips", "protocol", "seed")}
    assert set(settings.Augmentation.model_fields) == arguments(augmentation.augment) - {
        *("waveform", "sampling_rate", "rng")
    }
    assert set(load_recipe("demo").input.feature_settings()) - {"kind", "pooling"} == arguments(features.mfcc) - {
        "waveform",
        "sampling_rate",
    }
    every = ("demo", "ravdess-whisper-logistic", "tess-wav2vec2-finetune")
    used = [load_recipe(name).create_model().used_settings()["training"] for name in every]
    assert set(settings.Training.model_fields) == set.union(*used)
    assert set(settings.ModelSettings.model_fields) <= arguments(models.build, models.Network.__init__) | {
        *("trainable", "lora_rank")
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.name=finetune"], "needs an encoder"),
        (["input.encoder=x", "model.name=finetune", "training.scheduler=plateau"], "not plateau"),
        (["input.encoder=x", "input.layers=all", "input.pooling=sequence"], "the frames of one layer"),
        (["model.name=attentive-pooling", "input.pooling=mean"], "needs input.pooling=sequence"),
        (["model.name=mlp", "input.pooling=sequence"], "needs input.pooling=mean or mean"),
        (["model.name=weighted-layers", "input.pooling=mean"], "needs an encoder and input.layers=all"),
        (["training.augmentation.noise=[0, 20]"], "did you mean 'training.augmentation.noise_db'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(SerError, match=message):
        load_recipe("demo", overrides=overrides)


def test_another_encoder_leaves_the_revision_of_the_recipes_own_behind():
    def revision(*overrides):
        return load_recipe("ravdess-wav2vec2-frozen-mlp", overrides=overrides).input.revision

    assert revision("input.layers=all") == load_recipe("ravdess-wav2vec2-frozen-mlp").input.revision
    assert revision("input.encoder=openai/whisper-base") is None
    assert revision("input.encoder=openai/whisper-base", "input.revision=abc") == "abc"


def test_what_a_model_reads_is_said_in_words():
    def labels(name, *overrides):
        recipe = load_recipe(name, overrides=overrides)
        return recipe.features_label, recipe.input_label, recipe.model_label, recipe.variant_label

    name = "ravdess-wav2vec2-frozen-mlp"
    assert labels(name) == ("facebook/wav2vec2-base", "mean of the last layer", "mlp", "stated")
    # The table has a column for the encoder, and a folder shows its own name alone.
    assert labels(name, "input.encoder=/a/b/whisper-base", "input.layers=[1,2]", "input.pooling=mean+std") == (
        *("whisper-base", "mean+std of layers 1 2", "mlp"),
        "stated; input.layers=[1,2]; input.pooling=mean+std",
    )
    assert labels("tess-wav2vec2-finetune")[1:3] == ("waveform", "finetune (all)")
    assert labels("demo")[:3] == ("mfcc-40", "sequence", "cnn")


def test_an_override_changes_one_field_and_is_remembered():
    recipe = load_recipe("demo", overrides=["training.epochs = 3", "training.learning_rate=1e-4"])
    assert (recipe.training.epochs, recipe.training.learning_rate) == (3, 1e-4)
    assert recipe.training.batch_size == load_recipe("demo").training.batch_size
    assert recipe.variant_label == "stated; training.epochs=3; training.learning_rate=1e-4"


def test_corpora_and_emotions_are_given_as_a_word_a_list_or_all():
    assert load_recipe("demo", overrides=["corpora=ravdess"]).corpora == ("ravdess",)
    assert load_recipe("demo", overrides=["split.test_corpora=savee"]).split.test_corpora == ("savee",)
    recipe = load_recipe("tess-mfcc-cnn", overrides=["corpora=[ravdess, savee]", "emotions=all"])
    assert recipe.corpora == ("ravdess", "savee") and "calm" in recipe.emotions
    assert load_recipe("demo", overrides=["emotions=[sadness, happy]"]).emotions == ("happy", "sad")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "unknown key 'training.epoch'.*did you mean 'training.epochs'"),
        ("epochs=3", "did you mean 'training.epochs'"),
        ("input.audio.trim_db=30", "did you mean 'input.audio.trim_below_db'"),
        ("training.epochs=many", "training.epochs.*integer.*'many'"),
        ("training.epochs=0", "greater than 0"),
        ("training.epochs", "expected key.path=value"),
        ("=3", "expected key.path=value"),
        ("training.epochs=[3", "cannot read the value"),
        ("model.name=svm", "unknown model 'svm'.*cnn, lstm, bilstm, gru, mlp"),
        ("emotions=[glad]", "unknown emotion 'glad'"),
        ("split=5", "split"),
        ("name=../../x", "name"),
        ("name=a/b", "name"),
        ("model.hidden=1", "model.hidden"),
    ],
)
def test_a_wrong_override_is_refused_with_what_would_be_right(override, message):
    with pytest.raises(SerError, match=message):
        load_recipe("demo", overrides=[override])


@given(st.text(max_size=30))
def test_any_text_as_an_override_is_taken_or_refused_with_a_clear_error(text):
    try:
        load_recipe("demo", overrides=[text])
    except SerError as error:
        assert str(error)


def test_the_caveat_of_scores_stays_with_a_part_of_the_corpora_and_goes_with_others():
    recipe = load_recipe("speech-emotion")
    for overrides in ([], ["corpora=[ravdess]"], ["input.layers=[3]"]):
        assert load_recipe("speech-emotion", overrides=overrides).caveat_of_scores == recipe.caveat != ""
    assert load_recipe("speech-emotion", overrides=["corpora=[ravdess, sample]"]).caveat_of_scores == ""
    assert load_recipe("demo").caveat_of_scores == ""


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(SerError, match="unknown recipe 'tess-mfc-cnn'. Did you mean tess-mfcc-cnn?"):
        load_recipe("tess-mfc-cnn")


def test_a_recipe_of_ones_own_is_read_from_its_file(tmp_path):
    fields = yaml.safe_load((recipe_module.FOLDER / "demo.yaml").read_text()) | {"title": "Mine"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(fields))
    assert (load_recipe(path).name, load_recipe(path).title) == ("mine", "Mine")
    path.write_text("titel: x")
    with pytest.raises(SerError, match="unknown key 'titel' in recipe mine: did you mean 'title'"):
        load_recipe(path)
    path.write_text("[1, 2]")
    with pytest.raises(SerError, match="holds no recipe"):
        load_recipe(path)
    path.write_text("a: [")
    with pytest.raises(SerError, match="is not YAML"):
        load_recipe(path)


class TestARecipeOfSomebodyElse:
    """What its file says is never more than text: no variable, no program, no markup."""

    @pytest.fixture
    def foreign(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SECRET_TOKEN", "hf_secret")
        monkeypatch.setenv("SPEECH", str(tmp_path / "speech"))

        def write(**changes):
            fields = yaml.safe_load((recipe_module.FOLDER / "ravdess-whisper-logistic.yaml").read_text())
            fields["input"]["encoder"] = "$SECRET_TOKEN"
            (tmp_path / "foreign.yaml").write_text(yaml.safe_dump(fields | changes))
            return tmp_path / "foreign.yaml"

        return write

    def test_never_shows_what_a_variable_holds(self, foreign):
        recipe = load_recipe(str(foreign(title="$SECRET_TOKEN", corpora=["$SECRET_TOKEN.csv"])))
        shown = [recipe.features_label, recipe.variant_label, dump_recipe(recipe), str(recipe.notices)]
        shown += [stated_recipe(recipe), recipe.folder_name]
        with pytest.raises(SerError) as refused:
            encoder_weights.locate(recipe.input.encoder)
        with pytest.raises(SerError) as unknown:
            load_clips(list(recipe.corpora))
        assert "hf_secret" not in " ".join([*shown, str(refused.value), str(unknown.value)])

    def test_is_expanded_where_the_user_types(self, foreign, tmp_path):
        recipe = load_recipe(str(foreign()), overrides=["input.encoder=$SPEECH", "corpora=[$SPEECH/my.csv]"])
        assert recipe.input.encoder == str(tmp_path / "speech") and recipe.features_label == "speech"
        assert recipe.corpora == (f"{tmp_path}/speech/my.csv",)
        with pytest.raises(SerError, match="the variable NOT_THERE is not set"):
            load_recipe(str(foreign()), overrides=["input={encoder: $NOT_THERE}"])

    def test_cannot_leave_the_place_where_a_page_shows_it(self, foreign):
        text = '```\n\n# Fake\n</pre><script>alert(1)</script><meta http-equiv="refresh" content="0">'
        recipe = load_recipe(str(foreign(as_run_notes=text, emotions=["happy", "sad"])))
        page = str(stated_recipe(recipe))
        assert re.findall("<[^>]*>", page) == ["<pre>", "</pre>"]
        assert "<script>" in html.unescape(page)
        with pytest.raises(SerError, match="title"):
            load_recipe(str(foreign(title="one\n# two")))

    @pytest.mark.parametrize(
        "value", [".inf", "-.inf", ".nan", "2020-13-45", "!!int ''", "[" * 3000, "&a [*a]", "1e999"]
    )
    def test_is_refused_in_a_sentence(self, value):
        with pytest.raises(SerError):
            load_recipe("demo", overrides=[f"training.learning_rate={value}"])
