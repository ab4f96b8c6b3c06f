"""Nothing from data, checkpoints or model repositories is executed: each test plants something that would leave a mark."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import visionr1
from visionr1.data.readers import load_problems
from visionr1.errors import BadInput
from visionr1.model.chat import PromptBuilder
from visionr1.model.load import load_model, load_processor
from visionr1.preflight.base import base_dir
from visionr1.recipe import parse_recipe
from visionr1.recipe.schema import Model
from visionr1.recipe.source import Source

SOURCES = sorted(Path(visionr1.__file__).parent.rglob("*.py"))
MODEL = Model(base="demo", dtype="float32", min_pixels=784, max_pixels=50176, gradient_checkpointing=False)


class Mark:
    """Its pickle makes the file `path` when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A path that appears when something planted is run; a test that leaves it there has failed."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists(), "something that was planted has been run"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))


def code(mark: Path) -> str:
    return f"import os\nos.makedirs({str(mark)!r}, exist_ok=True)\n"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(base_dir(MODEL), folder)
    return folder


def changed(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **values}))


def test_what_is_planted_here_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Mark(tmp_path / "pickled")))
    exec(code(tmp_path / "coded"))
    assert (tmp_path / "pickled").exists() and (tmp_path / "coded").exists()


def test_pickled_weights_are_refused(model_dir: Path, mark: Path) -> None:
    for name in ("pytorch_model.bin", "model.safetensors", "training_args.bin", "optimizer.pt"):
        (model_dir / name).write_bytes(pickle.dumps(Mark(mark)))
    with pytest.raises(BadInput, match="is no safetensors file") as caught:
        load_model(model_dir, MODEL, torch.device("cpu"))
    assert "\n" not in str(caught.value)
    (model_dir / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="only weights in safetensors are read"):
        load_model(model_dir, MODEL, torch.device("cpu"))


def test_a_pickle_beside_good_weights_is_left_alone(model_dir: Path, mark: Path) -> None:
    (model_dir / "pytorch_model.bin").write_bytes(pickle.dumps(Mark(mark)))
    assert load_model(model_dir, MODEL, torch.device("cpu")).dtype == torch.float32


def test_a_pickle_in_the_place_of_the_trainer_s_state_is_refused(tmp_path: Path, mark: Path) -> None:
    from safetensors import SafetensorError

    from visionr1.engine.state import load_trainer

    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer/rank-00000-of-00001.safetensors").write_bytes(pickle.dumps(Mark(mark)))
    with pytest.raises(SafetensorError):
        load_trainer(None, tmp_path)


CLASSES = {
    "config.json": {
        "AutoConfig": "planted.Planted",
        "AutoModelForImageTextToText": "planted.Planted",
        "AutoProcessor": "planted.Planted",
    },
    "tokenizer_config.json": {"AutoTokenizer": ["planted.Planted", "planted.Planted"], "AutoProcessor": "planted.Planted"},
    "processor_config.json": {"AutoProcessor": "planted.Planted"},
    "preprocessor_config.json": {"AutoImageProcessor": "planted.Planted", "AutoProcessor": "planted.Planted"},
    "video_preprocessor_config.json": {"AutoVideoProcessor": "planted.Planted"},
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("known", [True, False], ids=["known class", "unknown class"])
def test_classes_from_a_model_repository_are_never_imported(model_dir: Path, mark: Path, name: str, known: bool) -> None:
    (model_dir / "planted.py").write_text(code(mark) + "class Planted: pass\n")
    (model_dir / "__init__.py").write_text(code(mark))
    changed(model_dir / name, auto_map=CLASSES[name])
    if not known:
        names = {
            "model_type": "planted",
            "processor_class": "Planted",
            "tokenizer_class": "Planted",
            "image_processor_type": "Planted",
        }
        changed(model_dir / name, **names)
    for load in (load_processor, lambda folder: load_model(folder, MODEL, torch.device("cpu"))):
        try:
            load(model_dir)
        except BadInput as error:
            assert "\n" not in str(error)
    assert not mark.exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.mkdir('MARK') }}",
        "{{ self.__init__.__globals__['__builtins__']['__import__']('os').mkdir('MARK') }}",
        "{{ raise_exception.__globals__['os'].mkdir('MARK') }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{% for a in range(10 ** 9) %}x{% endfor %}",
        "{{ 'x' * 10 ** 12 }}",
        "{{ 'x' * 10 ** 8 }}",
        "{{ raise_exception('no') }}",
        "{{ 1 / 0 }}",
        "{% broken",
        "{{ messages[0]['content'] * 2 }}",
        "nothing of the user's",
        "{{ messages[7].content }}",
    ],
)
def test_a_chat_template_that_tries_more_than_to_write_is_refused_in_one_line(model_dir: Path, mark: Path, template: str) -> None:
    (model_dir / "chat_template.jinja").write_text(template.replace("MARK", str(mark)))
    builder = PromptBuilder(model_dir, MODEL)
    with pytest.raises(BadInput, match=r"^model\.base: the chat template in ") as caught:
        _ = builder._frame
    assert "\n" not in str(caught.value)


LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"


def test_a_chat_template_that_never_ends_is_killed(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionr1.model.trial.SECONDS", 5.0)
    (model_dir / "chat_template.jinja").write_text(LOOPS)
    builder = PromptBuilder(model_dir, MODEL)
    begun = time.monotonic()
    with pytest.raises(BadInput, match=r"the chat template in .* fails: it takes longer than 5 s"):
        _ = builder._frame
    assert time.monotonic() - begun < 60


def test_a_tokenizer_that_grows_without_end_is_killed(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionr1.model.trial.SECONDS", 20.0)
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100}
    changed(model_dir / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [grow] * 8})
    with pytest.raises(BadInput, match=r"tokenizer.json fails: it takes (too much memory|longer than)"):
        PromptBuilder(model_dir, MODEL)


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "vocab.json", "merges.txt"])
def test_a_pipe_or_a_huge_file_beside_a_model_stops_nobody(model_dir: Path, name: str) -> None:
    file = model_dir / name
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    with pytest.raises(BadInput, match=f"{name} is no regular file"):
        PromptBuilder(model_dir, MODEL)
    file.unlink()
    file.symlink_to("nowhere")
    with pytest.raises(BadInput, match=name):
        PromptBuilder(model_dir, MODEL)
    file.unlink()
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(BadInput, match=f"{name} is larger than 128 MiB"):
        PromptBuilder(model_dir, MODEL)


def test_a_template_of_another_makes_the_same_prompt_as_transformers(model_dir: Path) -> None:
    """A comment makes it another one for us, so the process that can be killed writes it."""
    with (model_dir / "chat_template.jinja").open("a") as file:
        file.write("{# another #}")
    builder, shipped = PromptBuilder(model_dir, MODEL), PromptBuilder(base_dir(MODEL), MODEL)
    assert builder._frame == shipped._frame
    turn = [{"role": "user", "content": "3 + 5?"}]
    expected = shipped.processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert (
        shipped.tokenizer.decode([*shipped._frame[0], *shipped._encode("3 + 5?", special=False), *shipped._frame[1]]) == expected
    )


def test_a_data_set_s_loading_script_is_never_run(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "owner/name"
    folder.mkdir(parents=True)
    (folder / "name.py").write_text(code(mark) + "import datasets\nclass Name(datasets.GeneratorBasedBuilder): pass\n")
    (folder / "dataset_infos.json").write_text('{"default": {"builder_name": "name"}}')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="hf://owner/name cannot be read: ") as caught:
        load_problems(Source(path="hf://owner/name"))
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput):
        load_problems(Source(path=str(folder)))
    (folder / "rows.jsonl").write_text('{"problem": "?", "answer": "1"}')
    assert load_problems(Source(path=str(folder)))[0].answer == "1"


@pytest.mark.parametrize(
    "value", ["!!python/object/apply:os.mkdir [MARK]", "!!python/name:os.system", "!!python/object/new:os.mkdir [MARK]"]
)
def test_yaml_makes_no_objects(mark: Path, value: str) -> None:
    with pytest.raises(BadInput, match=r"a recipe has no tags \(!name\): remove 'tag:yaml.org,2002:"):
        parse_recipe(f"preset: demo\nname: {value.replace('MARK', str(mark))}", "r.yaml")


@pytest.mark.parametrize("suffix", ["parquet", "saved"])
def test_pickles_in_arrow_metadata_are_never_read(tmp_path: Path, mark: Path, suffix: str) -> None:
    planted = pickle.dumps(Mark(mark))
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": planted}
    fields = [pa.field("problem", pa.string()), pa.field("answer", pa.string(), metadata=metadata)]
    table = pa.Table.from_arrays(
        [pa.array(["?"]), pa.array(["1"])], schema=pa.schema(fields, {"pandas": planted, "pickle": planted})
    )
    if suffix == "parquet":
        path = tmp_path / "rows.parquet"
        pq.write_table(table, path)
    else:
        path = tmp_path / "rows"
        path.mkdir()
        (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}], "_fingerprint": "x"}))
        (path / "dataset_info.json").write_text("{}")
        with pa.OSFile(str(path / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    try:
        assert load_problems(Source(path=str(path)))[0].problem == "?"
    except BadInput as error:
        assert "\n" not in str(error)


PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "jsonpickle"}
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
SENDS_PICKLES = {
    *("broadcast_object_list", "all_gather_object", "gather_object", "scatter_object_list", "send_object_list"),
    "recv_object_list",
}


def forbidden(tree: ast.AST) -> Iterator[str]:
    """What no module may hold: reading of pickles, unsafe YAML, code made from text, code from a hub."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"import {name}" for name in names if name.split(".")[0] in PICKLES)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in RUNS_CODE or name.split(".")[-1] in SENDS_PICKLES:
            yield name
        if name in ("torch.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle", "pd.read_pickle"):
            yield name
        if name in ("yaml.load", "yaml.load_all") and "Safe" not in given.get("Loader", ""):
            yield name
        if given.get("allow_pickle", "False") != "False":
            yield f"{name}(allow_pickle)"
        if given.get("trust_remote_code", "False") != "False":
            yield f"{name}(trust_remote_code)"
        if trusts_by_default(name) and given.get("trust_remote_code") != "False":
            yield f"{name} without trust_remote_code=False"


def trusts_by_default(call: str) -> bool:
    """Those that must say that they do not run a hub's code."""
    parts = call.split(".")
    return parts[-1] == "LLM" or (parts[-1] == "from_pretrained" and parts[0] in ("AutoProcessor", "AutoTokenizer", "AutoModel"))


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from cloudpickle import loads", "torch.load(f)", "torch.load(f, weights_only=False)",
        "yaml.load(t)", "eval(t)",
        "yaml.load(t, Loader=yaml.FullLoader)", "np.load(f, allow_pickle=True)", "exec(t)", "compile(t, '', 'exec')",
        "LLM(model=m)", "dist.all_gather_object(parts, mine)", "broadcast_object_list(box, 0)",
        "AutoProcessor.from_pretrained(d)", "X.from_pretrained(d, trust_remote_code=True)", "f(trust_remote_code=recipe.trust)",
    ],
)  # fmt: skip
def test_the_search_finds(line: str) -> None:
    assert list(forbidden(ast.parse(line)))


def test_no_module_reads_pickles_or_makes_code_from_text() -> None:
    found = {str(file): list(forbidden(ast.parse(file.read_text("utf-8")))) for file in SOURCES}
    assert len(found) > 100
    assert {file: lines for file, lines in found.items() if lines} == {}


CLIENTS = ("aiohttp", "http.client", "httpx", "openai", "requests", "urllib.request")


def test_one_module_alone_speaks_http_with_strangers() -> None:
    """It follows no redirect and reads no more than it should; judges and rewards have to use it, too."""
    speaking = set()
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.startswith(CLIENTS) for name in names):
                speaking.add(file.relative_to(Path(visionr1.__file__).parent).as_posix())
    # A worker of a teacher asks the server that it has started whether it is up, and reads no more than the status.
    assert speaking == {"data/coldstart/endpoint.py", "rollout/serving.py"}
