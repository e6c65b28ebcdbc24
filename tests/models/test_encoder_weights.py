"""Where pretrained weights come from, what is refused, and that nothing is unpickled. No network is asked."""

import contextlib
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny import KINDS, tiny_checkpoint
from transformers import AutoModel, AutoModelForAudioClassification, Wav2Vec2Model

from ser_lib.common.errors import SerError
from ser_lib.models import encoder_weights

COMMIT, CONVERTED = "a" * 40, "b" * 40
NAME = "owner/speech"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return {kind: tiny_checkpoint(folder / kind, kind) for kind in KINDS}


@pytest.fixture
def folder(originals, tmp_path):
    return Path(shutil.copytree(originals["wav2vec2"], tmp_path / "speech"))


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestFolder:
    def test_is_found_by_its_path_or_the_home(self, folder, monkeypatch):
        monkeypatch.setenv("HOME", str(folder.parent))
        for encoder in (str(folder), f"{folder}/", "~/speech"):
            found = encoder_weights.locate(encoder)
            assert found.folder == folder and found.name == "speech" == encoder_weights.label(encoder)
            assert found.config["model_type"] == "wav2vec2" and found.n_layers == 3

    def test_is_known_by_its_content_wherever_it_lies(self, folder, tmp_path):
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        identity = encoder_weights.locate(str(folder)).identity
        assert encoder_weights.locate(str(copy)).identity == identity
        (copy / "README.md").write_text("no part of it")
        assert encoder_weights.locate(str(copy)).identity == identity
        for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
            before = (copy / name).read_bytes()
            (copy / name).write_bytes(before + b" ")
            assert encoder_weights.locate(str(copy)).identity != identity, name
            (copy / name).write_bytes(before)

    def test_may_be_in_pieces(self, originals, tmp_path):
        model = Wav2Vec2Model.from_pretrained(originals["wav2vec2"])
        model.save_pretrained(tmp_path / "shards", max_shard_size="80KB")
        shards = sorted((tmp_path / "shards").glob("*.safetensors"))
        assert len(shards) > 1
        found = encoder_weights.locate(str(tmp_path / "shards"))
        loaded = encoder_weights.load_model(found, AutoModel).state_dict()
        assert all(torch.equal(loaded[name], weight) for name, weight in model.state_dict().items())
        shards[-1].unlink()
        with pytest.raises(SerError, match="holds no weights"):
            encoder_weights.locate(str(tmp_path / "shards"))

    def test_of_every_architecture(self, originals):
        for kind, original in originals.items():
            found = encoder_weights.locate(str(original))
            assert kind.startswith(found.config["model_type"]) and found.n_layers == 3

    def test_is_named_without_being_looked_at(self):
        assert encoder_weights.label("owner/name") == "owner/name"
        assert encoder_weights.label("/nowhere/at/all") == "all"
        assert encoder_weights.label("./model") == "model"
        assert encoder_weights.label("$NO_SUCH_VARIABLE") == "$NO_SUCH_VARIABLE"

    @pytest.mark.parametrize(
        "spoil, message",
        [
            (lambda folder: shutil.rmtree(folder), "no folder: expected one with config.json"),
            (
                lambda folder: (folder / "config.json").unlink(),
                "cannot be read: No such file.*Expected the config.json",
            ),
            (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
            (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
            (lambda folder: configure(folder, model_type="bert"), "architecture 'bert'; expected one of wav2vec2"),
        ],
        ids=["missing", "no config", "broken config", "no weights", "text model"],
    )
    def test_that_is_no_encoder_is_refused(self, folder, spoil, message):
        spoil(folder)
        with pytest.raises(SerError, match=message):
            encoder_weights.locate(str(folder))

    def test_of_pickled_weights_is_refused_and_never_read(self, folder):
        class Bomb:
            def __reduce__(self):
                return Path.touch, (folder / "exploded",)

        torch.save(Bomb(), folder / "pytorch_model.bin")
        encoder_weights.load_model(encoder_weights.locate(str(folder)), AutoModel)
        (folder / "model.safetensors").unlink()
        with pytest.raises(
            SerError, match=r"only pickled weights \(pytorch_model.bin\).*any program.*spaces/safetensors"
        ):
            encoder_weights.locate(str(folder))
        assert not (folder / "exploded").exists()

    def test_behind_a_variable_is_not_looked_up(self, folder, monkeypatch):
        monkeypatch.setenv("SPEECH_FOLDER", str(folder))
        with pytest.raises(SerError, match=r"=\$SPEECH_FOLDER stands in a file, where no variable is expanded"):
            encoder_weights.locate("$SPEECH_FOLDER")
        assert encoder_weights.label("$SPEECH_FOLDER") == "$SPEECH_FOLDER"


class TestAProgramOfTheModels:
    """transformers would import it after one `y`, or without a question where a caller trusts it."""

    @pytest.fixture
    def armed(self, folder, tmp_path, monkeypatch):
        ran = tmp_path / "ran"
        monkeypatch.setattr("builtins.input", lambda *_: "y")
        (folder / "mine.py").write_text(f"import pathlib\npathlib.Path({str(ran)!r}).touch()\nclass Mine: pass\n")
        yield folder
        assert not ran.exists()

    @pytest.mark.parametrize("kind", ["AutoFeatureExtractor", "AutoProcessor", "AutoConfig", "AutoModel"])
    @pytest.mark.parametrize("unknown", [False, True])
    def test_is_never_run(self, armed, kind, unknown):
        for name in ("config.json", "preprocessor_config.json"):
            fields = json.loads((armed / name).read_text()) | {"auto_map": {kind: "mine.Mine"}}
            if unknown:
                fields |= {"feature_extractor_type": "Mine", "architectures": ["Mine"]}
            (armed / name).write_text(json.dumps(fields))
        with contextlib.suppress(SerError):
            checkpoint = encoder_weights.locate(str(armed))
            encoder_weights.load_model(checkpoint, AutoModel)
            encoder_weights.load_feature_extractor(checkpoint)

    def test_as_the_only_feature_extractor_is_refused(self, armed):
        path = armed / "preprocessor_config.json"
        path.write_text(json.dumps({"auto_map": {"AutoFeatureExtractor": "mine.Mine"}}))
        with pytest.raises(SerError, match="No program that comes with a model is ever run"):
            encoder_weights.load_feature_extractor(encoder_weights.locate(str(armed)))

    def test_in_an_adapter_is_refused(self, armed):
        (armed / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/other"}))
        with pytest.raises(SerError, match="holds an adapter"):
            encoder_weights.load_model(encoder_weights.locate(str(armed)), AutoModel)

    def test_is_trusted_nowhere_in_the_package(self):
        """Every class that could import a program is told not to."""
        for source in Path(encoder_weights.__file__).parents[1].rglob("*.py"):
            text = source.read_text(encoding="utf-8")
            assert not re.search(r"trust_remote_code[\"']?\s*[=:]\s*True", text), source
            for call in re.findall(r"Auto\w+\.from_pretrained\(([^)]*)\)", text, re.DOTALL):
                # The docstring of the checkpoint shows how others load it.
                assert "trust_remote_code=False" in call or call == "folder", source


def test_the_weights_that_are_loaded_are_those_that_are_hashed(originals, tmp_path):
    """An index with shards beside model.safetensors: transformers loads the latter."""
    folder = Path(shutil.copytree(originals["wav2vec2"], tmp_path / "both"))
    other = Wav2Vec2Model.from_pretrained(tiny_checkpoint(tmp_path / "other", "wav2vec2", seed=1))
    other.save_pretrained(tmp_path / "shards", max_shard_size="80KB")
    for path in (tmp_path / "shards").glob("*safetensors*"):
        shutil.copy(path, folder)
    before = encoder_weights.locate(str(folder)).identity
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    found = encoder_weights.locate(str(folder))
    assert found.identity != before
    loaded = encoder_weights.load_model(found, AutoModel).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in other.state_dict().items())
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    for content in ("{}", "[]", '{"weight_map": 1}', "{"):
        index.write_text(content)
        with pytest.raises(SerError, match="index.json cannot be read"):
            encoder_weights.locate(str(folder))


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    for error in (
        SafetensorError("I/O error: No space left"),
        RuntimeError("[enforce fail] PytorchStreamWriter failed"),
    ):
        with pytest.raises(OSError, match="cannot be written.*is the disk full"), encoder_weights.disk_errors(tmp_path):
            raise error
    with pytest.raises(RuntimeError, match="another"), encoder_weights.disk_errors(tmp_path):
        raise RuntimeError("another reason")


class TestLoadModel:
    def load(self, folder, model_class=AutoModel, **settings):
        return encoder_weights.load_model(encoder_weights.locate(str(folder)), model_class, **settings)

    def test_gives_the_weights_in_float32_without_a_word(self, folder, capfd):
        weights = load_file(folder / "model.safetensors")
        save_file({name: weight.half() for name, weight in weights.items()}, folder / "model.safetensors")
        configure(folder, dtype="float16")
        model = self.load(folder)
        assert not model.training
        state = model.state_dict()
        assert {weight.dtype for weight in state.values()} == {torch.float32}
        assert all(torch.equal(state[name], weight.half().float()) for name, weight in weights.items())
        output = capfd.readouterr()
        assert output.out + output.err == ""

    def test_reads_the_names_that_old_checkpoints_use(self, folder):
        state = self.load(folder).state_dict()
        old = {}
        for name, weight in state.items():  # as facebook/wav2vec2-base: a model for pretraining, of an older PyTorch
            name = name.replace("parametrizations.weight.original0", "weight_g")
            old[f"wav2vec2.{name.replace('parametrizations.weight.original1', 'weight_v')}"] = weight.clone()
        old["project_q.weight"] = torch.zeros(2, 2)
        save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
        loaded = self.load(folder).state_dict()
        assert all(torch.equal(loaded[name], weight) for name, weight in state.items())

    def test_refuses_weights_of_another_model(self, folder, originals):
        shutil.copy(originals["whisper"] / "model.safetensors", folder / "model.safetensors")
        with pytest.raises(SerError, match=r"states wav2vec2, but the weights lack \d+ of its tensors.*another model"):
            self.load(folder)

    def test_refuses_weights_of_fewer_layers_or_another_width(self, folder):
        configure(folder, num_hidden_layers=3)
        with pytest.raises(SerError, match=r"lack \d+ of its tensors, first encoder.layers.2"):
            self.load(folder)
        configure(folder, num_hidden_layers=2, intermediate_size=64)
        with pytest.raises(SerError, match="do not fit it"):
            self.load(folder)

    def test_may_add_a_new_head_but_nothing_else(self, folder):
        model = self.load(folder, AutoModelForAudioClassification, new=("classifier", "projector"), num_labels=5)
        assert model.classifier.out_features == 5
        with pytest.raises(SerError, match="lack 2 of its tensors, first projector"):
            self.load(folder, AutoModelForAudioClassification, new=("classifier",))

    def test_refuses_damaged_weights(self, folder):
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
        with pytest.raises(SerError, match="weights are damaged"):
            self.load(folder)


class TestFeatureExtractor:
    def test_is_the_checkpoints_own(self, folder):
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"do_normalize": False, "sampling_rate": 8000}))
        extractor = encoder_weights.load_feature_extractor(encoder_weights.locate(str(folder)))
        assert not extractor.do_normalize and extractor.sampling_rate == 8000

    @pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
    def test_is_the_default_where_the_checkpoint_has_none(self, originals, tmp_path, kind):
        folder = Path(shutil.copytree(originals[kind], tmp_path / kind))
        (folder / "preprocessor_config.json").unlink()
        if kind == "whisper":
            configure(folder, num_mel_bins=128)  # as Whisper large
        extractor = encoder_weights.load_feature_extractor(encoder_weights.locate(str(folder)))
        assert extractor.sampling_rate == 16000
        if kind == "whisper":
            assert extractor.feature_size == 128


def put_into_cache(cache, original, commit=COMMIT, leave_out=()):
    """The Hub's cache as it is after a download of that commit, when it was the head of the main branch."""
    repository = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    shutil.copytree(original, snapshot, ignore=shutil.ignore_patterns(*leave_out))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return snapshot


class Hub:
    """Stands in for the Hub's client: commits as folders, and what the converter has proposed."""

    def __init__(self, cache, commits, requests=()):
        self.cache, self.commits, self.requests, self.reached = cache, commits, requests, True
        self.asked = []

    def snapshot_download(self, name, revision, allow_patterns, local_files_only=False):
        commit = {"main": COMMIT}.get(revision, revision)
        snapshot = self.cache / commit
        if not snapshot.is_dir():
            if local_files_only or not self.reached:
                raise errors.LocalEntryNotFoundError("not there")
            self.asked.append(commit)
            pickled = shutil.ignore_patterns("*.bin")  # no pattern of what is allowed matches them
            shutil.copytree(self.commits[commit], snapshot, ignore=pickled)
        return str(snapshot)

    def get_repo_discussions(self, name, author, discussion_type, discussion_status):
        if not self.reached:
            raise errors.HTTPError("no network")
        return iter(self.requests)

    def get_paths_info(self, name, paths, revision):
        folder = self.commits[{"refs/pr/7": CONVERTED}.get(revision, revision)]
        found = [folder / path for path in paths if (folder / path).is_file()]
        return [SimpleNamespace(path=file.name, blob_id=hash(file.read_bytes())) for file in found]

    def model_info(self, name, revision):
        return SimpleNamespace(sha={"refs/pr/7": CONVERTED}[revision])


class TestHub:
    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        return tmp_path / "hub"

    @pytest.fixture
    def pickled(self, originals, tmp_path, monkeypatch):
        """A repository of pickled weights, to which the converter proposes to add safetensors."""
        proposed = Path(shutil.copytree(originals["wav2vec2"], tmp_path / "proposed"))
        (proposed / "pytorch_model.bin").write_bytes(b"pickled")
        before = shutil.copytree(proposed, tmp_path / "before", ignore=shutil.ignore_patterns("*.safetensors"))
        request = SimpleNamespace(author="SFconvertbot", git_reference="refs/pr/7")
        hub = Hub(tmp_path / "fetched", {COMMIT: Path(before), CONVERTED: proposed}, [request])
        monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
        return hub

    @pytest.mark.parametrize("revision", [None, "main", COMMIT])
    def test_is_read_from_its_cache_without_a_network(self, cache, originals, revision):
        snapshot = put_into_cache(cache, originals["hubert"])
        found = encoder_weights.locate(NAME, revision)
        assert found.folder == snapshot and found.name == NAME and found.identity == f"{NAME}@{COMMIT}"
        assert encoder_weights.load_model(found, AutoModel).config.model_type == "hubert"

    def test_that_is_acoustic_features_by_another_name_is_asked_about(self, cache):
        with pytest.raises(SerError, match="Did you mean 'mfcc'?"):
            encoder_weights.locate("mfcc-20")

    @pytest.mark.parametrize("leave_out", [("*",), ("model.safetensors",), ("config.json",)])
    def test_that_cannot_be_reached_names_the_three_ways(self, cache, originals, leave_out):
        if leave_out != ("*",):  # a download that was interrupted
            put_into_cache(cache, originals["hubert"], leave_out=leave_out)
        with pytest.raises(SerError, match=r"cannot be reached.*input.encoder=/path.*HF_HOME.*or a network"):
            encoder_weights.locate(NAME, "main")

    def test_is_asked_where_the_cache_is_empty(self, originals, tmp_path, monkeypatch):
        hub = Hub(tmp_path / "fetched", {COMMIT: originals["hubert"]})
        monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
        assert encoder_weights.locate(NAME).identity == f"{NAME}@{COMMIT}"
        hub.reached = False
        assert encoder_weights.locate(NAME).folder == tmp_path / "fetched" / COMMIT

    @pytest.mark.parametrize("error", [errors.RepositoryNotFoundError, errors.RevisionNotFoundError])
    def test_that_knows_no_such_repository(self, monkeypatch, error):
        def refuse(*_, local_files_only=False, **__):
            if local_files_only:
                raise errors.LocalEntryNotFoundError("not there")
            raise error("404", response=SimpleNamespace(headers={}, request=None, status_code=404))

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(SerError, match="shows no owner/speech at revision main"):
            encoder_weights.locate(NAME)

    def test_a_folder_goes_before_a_repository_of_its_name(self, originals, tmp_path, monkeypatch):
        shutil.copytree(originals["wavlm"], tmp_path / NAME)
        monkeypatch.chdir(tmp_path)
        found = encoder_weights.locate(NAME)
        assert found.config["model_type"] == "wavlm" and found.name == NAME

    def test_pickled_weights_are_taken_from_the_hubs_conversion_and_that_is_remembered(self, pickled):
        for revision in (COMMIT, None):
            found = encoder_weights.locate(NAME, revision)
            assert found.identity == f"{NAME}@{CONVERTED}"
            assert encoder_weights.load_model(found, AutoModel).config.model_type == "wav2vec2"
        assert pickled.asked == [COMMIT, CONVERTED]
        pickled.reached = False
        for revision in (COMMIT, None):
            assert encoder_weights.locate(NAME, revision) == found

    @pytest.mark.parametrize("changed", ["pytorch_model.bin", "config.json"])
    def test_a_conversion_of_another_commit_is_not_taken(self, pickled, changed):
        with (pickled.commits[COMMIT] / changed).open("ab") as file:
            file.write(b" ")
        with pytest.raises(SerError, match=r"holds no safetensors, and the Hub has not converted.*any program"):
            encoder_weights.locate(NAME, COMMIT)

    @pytest.mark.parametrize("request_", [None, SimpleNamespace(author="somebody", git_reference="refs/pr/7")])
    def test_nobody_elses_conversion_is_taken(self, pickled, request_):
        pickled.requests = [request_] if request_ else []
        with pytest.raises(SerError, match="has not converted its weights"):
            encoder_weights.locate(NAME, COMMIT)

    def test_a_conversion_that_cannot_be_asked_for(self, pickled):
        pickled.cache.mkdir()
        ignore = shutil.ignore_patterns("*.bin")
        shutil.copytree(pickled.commits[COMMIT], pickled.cache / COMMIT, ignore=ignore)
        pickled.reached = False
        with pytest.raises(SerError, match="as safetensors, and the Hub cannot be reached"):
            encoder_weights.locate(NAME, COMMIT)
