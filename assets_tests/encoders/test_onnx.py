"""Exports to ONNX: the same vectors, the same version, refused when damaged or too far from torch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from assets_tests.encoders.small_models import JINA
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.encoders import onnx_export
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.files import DamagedModelError
from pipeline.encoders.loading import load_as_set, load_encoder, located_members
from pipeline.encoders.onnx_export import export_member
from pipeline.encoders.onnx_files import OnnxExport, OnnxExports
from pipeline.errors import HoneloopError
from pipeline.locking import locked
from pipeline.progress import Silent

TEXTS = ["def one(): return 1", "read the rows of a csv file", "", "größe = 名前", "x = 1\n" * 90]


@pytest.fixture(scope="session")
def exported(jina_export: OnnxExport) -> OnnxExport:
    """The frozen member's export; it has two adapters."""
    return jina_export


@pytest.fixture
def copied(exported: OnnxExport, tmp_path: Path) -> OnnxExports:
    """A copy of it to be damaged, where `Settings(home=tmp_path)` looks for exports."""
    shutil.copytree(exported.directory.parent, tmp_path / "onnx")
    return OnnxExports(tmp_path / "onnx", 0.9999)


def largest_difference(one: Encoder, other: Encoder) -> float:
    return max(
        float(np.abs(one.embed_queries(TEXTS) - other.embed_queries(TEXTS)).max()),
        float(np.abs(one.embed_documents(TEXTS) - other.embed_documents(TEXTS)).max()),
    )


def test_a_frozen_member_computes_by_onnx_the_same_vectors_of_the_same_version(
    exported: OnnxExport, small_hub: Path, qodo_jina: Encoder
) -> None:
    assert small_hub.is_dir()
    exports = OnnxExports(exported.directory.parent, 0.9999)
    encoder = load_encoder("qodo+jina", device="cpu", exports=exports)
    assert encoder.backends == ("torch", "onnx")
    assert (encoder.device, encoder.dtype, encoder.dims) == ("cpu", "float32", 2560)
    assert encoder.version == qodo_jina.version
    assert largest_difference(encoder, qodo_jina) < 1e-6
    # Each role has its own adapter, which a graph that forgot its input would not show.
    one, other = encoder.embed_queries(TEXTS[:1]), encoder.embed_documents(TEXTS[:1])
    assert np.abs(one[:, 1536:] - other[:, 1536:]).max() > 1e-3


def test_it_is_nearer_to_torch_than_half_floats_are(exported: OnnxExport) -> None:
    assert 1 - exported.nearness.lowest < 1e-9
    assert exported.nearness.speed > 0
    account = json.loads((exported.directory / "export.json").read_text("utf-8"))
    assert account["member_version"] == exported.directory.name
    assert account["spec"]["query_prompt"] == JINA.query_prompt
    assert set(account["files"]) == {"model.onnx", "model.onnx.data", "tokenizer.json"}


@pytest.mark.usefixtures("small_hub")
def test_settings_choose_the_backend(copied: OnnxExports, tmp_path: Path) -> None:
    assert copied.directory == tmp_path / "onnx"
    settings = Settings(home=tmp_path, device="cpu")
    assert load_as_set("jina", settings).backends == ("onnx",)
    assert load_as_set("jina", settings.model_copy(update={"backend": "torch"})).backends == ("torch",)
    elsewhere = settings.model_copy(update={"home": tmp_path / "elsewhere"})
    assert load_as_set("jina", elsewhere).backends == ("torch",)
    for value in ("0.99", "1.1"):  # not even by asking for it
        with pytest.raises(ValueError, match="onnx_min_cosine"):
            Settings.model_validate({"onnx_min_cosine": value})


@pytest.fixture
def made(exported: OnnxExport, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The members exported from now on. Making an export is tested by all the others: here it is copied."""
    versions: list[str] = []

    def make(member: Any, directory: Path, *_: Any) -> OnnxExport:
        versions.append(member.version)
        shutil.copytree(exported.directory, directory, dirs_exist_ok=True)
        return exported

    monkeypatch.setattr(onnx_export, "_make", make)
    return versions


@pytest.mark.usefixtures("small_hub")
def test_frozen_members_are_exported_by_who_loads_them_first_if_the_settings_say_so(
    exported: OnnxExport, made: list[str], tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, device="cpu", backend="onnx")
    assert load_as_set("qodo+jina", settings).backends == ("torch", "onnx")
    assert made == [exported.member_version]  # and not the member that trains
    # The frozen member of another encoder is the same: it is there.
    assert load_as_set("jina", settings).backends == ("onnx",)
    assert len(made) == 1
    elsewhere = settings.model_copy(update={"home": tmp_path / "elsewhere", "backend": "auto"})
    assert load_as_set("jina", elsewhere).backends == ("torch",)
    assert len(made) == 1


@pytest.mark.usefixtures("small_hub")
def test_who_asks_for_onnx_and_cannot_have_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(onnx_export.util, "find_spec", lambda _: None)
    with pytest.raises(HoneloopError, match="onnx, onnxscript, onnxruntime"):
        load_as_set("jina", Settings(home=tmp_path, device="cpu", backend="onnx"))


@pytest.mark.usefixtures("small_hub")
def test_who_waited_for_an_export_uses_it_and_leaves_it_in_place(
    exported: OnnxExport, made: list[str], tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, device="cpu", backend="onnx")
    with ThreadPoolExecutor(1) as threads:
        with locked(settings.onnx_path / onnx_export.LOCK):
            waiting = threads.submit(load_as_set, "jina", settings)
            time.sleep(1)
            assert not waiting.done()
            shutil.copytree(exported.directory, settings.onnx_path / exported.member_version)
        assert waiting.result().backends == ("onnx",)
    assert made == []


def test_with_an_export_torch_is_not_loaded(exported: OnnxExport, small_hub: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline.encoders.loading import load_encoder\n"
        "from pipeline.encoders.onnx_files import OnnxExports\n"
        "encoder = load_encoder('jina', device='cpu', exports=OnnxExports(Path(sys.argv[1]), 0.9999))\n"
        "assert encoder.embed_queries(['read a file']).shape == (1, 1024)\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(exported.directory.parent)]
    environment = {"HF_HUB_CACHE": str(small_hub), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("small_hub")
@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "export.json"])
def test_a_damaged_export_is_refused_by_name_and_replaced_by_exporting(
    copied: OnnxExports, exported: OnnxExport, made: list[str], name: str
) -> None:
    file = copied.directory / exported.member_version / name
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DamagedModelError, match=name) as error:
        load_encoder("jina", device="cpu", exports=copied)
    assert str(file) in error.value.message
    assert str(file.parent) in error.value.hint
    _, (member,) = located_members("jina")
    export_member(member, copied, Silent())
    assert made == [exported.member_version]
    assert load_encoder("jina", device="cpu", exports=copied).backends == ("onnx",)


@pytest.mark.usefixtures("small_hub")
def test_another_members_export_is_refused(copied: OnnxExports, exported: OnnxExport) -> None:
    _, (member,) = located_members("minilm")
    (copied.directory / exported.member_version).rename(copied.directory / member.version)
    with pytest.raises(DamagedModelError, match=f"is of {exported.member_version[:12]}, not of"):
        load_encoder("minilm", device="cpu", exports=copied)


@pytest.mark.usefixtures("small_hub")
def test_an_export_further_from_torch_than_asked_for_is_refused(
    copied: OnnxExports, exported: OnnxExport
) -> None:
    path = copied.directory / exported.member_version / "export.json"
    account = json.loads(path.read_text("utf-8"))
    account["nearness"]["lowest"] = 0.99985
    path.write_text(json.dumps(account), encoding="utf-8")
    with pytest.raises(HoneloopError, match=r"not the same model.* 0\.999850 at least"):
        load_encoder("jina", device="cpu", exports=copied)
    with pytest.raises(HoneloopError, match=r"0\.9999 is asked for"):
        copied.of(exported.member_version)
    unmeasured = replace(exported.nearness, lowest=float("nan"))
    with pytest.raises(HoneloopError, match="not the same model"):
        onnx_export.require_near(unmeasured, 0.9999, "It", "")


@pytest.mark.usefixtures("small_hub")
def test_a_graph_of_something_else_is_not_put_in_place(
    copied: OnnxExports, exported: OnnxExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrong graph is a real one: its weights changed by a tenth of their spread."""

    def write_another(member: Any, path: Path) -> None:
        del member
        for file in exported.directory.glob("model.onnx*"):
            shutil.copyfile(file, path.parent / file.name)
        weights = np.fromfile(path.parent / "model.onnx.data", dtype=np.float32)
        noise = np.random.default_rng(1).standard_normal(weights.size, dtype=np.float32)
        (weights + np.float32(2e-3) * noise).tofile(path.parent / "model.onnx.data")

    monkeypatch.setattr(onnx_export, "_write_float32", write_another)
    monkeypatch.setattr(onnx_export, "_LONG", "")
    monkeypatch.setattr(onnx_export, "_TIMED_RUNS", 1)
    shutil.rmtree(copied.directory)
    _, (member,) = located_members("jina")
    with pytest.raises(HoneloopError, match="is not the same model"):
        export_member(member, copied, Silent())
    assert [path.name for path in copied.directory.iterdir()] == [".lock"]
    assert exported.directory.is_dir()


@pytest.mark.usefixtures("small_hub")
def test_int8_is_refused_with_what_it_loses_unless_it_is_near_enough(
    copied: OnnxExports, exported: OnnxExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quickly(member: Any, path: Path) -> None:
        del member
        for file in exported.directory.glob("model.onnx*"):
            shutil.copyfile(file, path.parent / file.name)

    # The float32 graph is there already; what is quantized is that.
    monkeypatch.setattr(onnx_export, "_write_float32", quickly)
    monkeypatch.setattr(onnx_export, "_LONG", "")
    monkeypatch.setattr(onnx_export, "_TIMED_RUNS", 1)
    _, (member,) = located_members("jina")
    strict = OnnxExports(copied.directory, 0.99999999)
    with pytest.raises(HoneloopError, match="int8 would be another model") as error:
        export_member(member, strict, Silent(), int8=True)
    for way in onnx_export._WAYS:
        assert re.search(rf"{way}, 0\.9\d{{5}} at least and 0\.9\d{{5}} on average", error.value.message)
    # What was there stays.
    assert load_encoder("jina", device="cpu", exports=copied).dtype == "float32"
    there = sorted(path.name for path in copied.directory.iterdir())
    assert there == [".lock", exported.member_version]
    # With one layer of random weights little is lost, and what is near enough takes its place.
    made = export_member(member, copied, Silent(), int8=True)
    assert 0.9999 <= made.nearness.lowest < 1 - 1e-7
    assert made.bytes < exported.bytes
    small = load_encoder("jina", device="cpu", exports=copied)
    assert (small.dtype, small.version) == ("int8", member.version)


def test_exporting_what_is_exported_does_nothing(
    copied: OnnxExports, exported: OnnxExport, small_hub: Path
) -> None:
    assert small_hub.is_dir()
    before = (copied.directory / exported.member_version / "model.onnx").stat()
    _, (member,) = located_members("jina")
    again = export_member(member, copied, Silent())
    assert again.nearness == exported.nearness
    assert (again.directory / "model.onnx").stat().st_ino == before.st_ino


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, (member,) = located_members("minilm")
    monkeypatch.setattr(onnx_export.util, "find_spec", lambda _: None)
    with pytest.raises(HoneloopError, match="onnx, onnxscript, onnxruntime") as error:
        export_member(member, OnnxExports(tmp_path, 0.9999), Silent())
    assert "honeloop[onnx]" in error.value.hint


@pytest.mark.usefixtures("small_hub")
def test_the_command_says_where_how_near_and_how_fast(
    exported: OnnxExport, copied: OnnxExports, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied.directory.parent
    monkeypatch.setenv("HONELOOP_HOME", str(home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("HONELOOP_DEVICE", "cpu")
    runner = CliRunner()
    refused = runner.invoke(app, ["models", "export", "jina"])
    assert (refused.exit_code, "--onnx" in refused.stderr) == (2, True)
    shown = runner.invoke(app, ["models", "export", "jina", "--onnx"])
    assert shown.exception is None
    place = copied.directory / exported.member_version
    for part in (str(place), "float32", "MB", "times as fast as torch", "1.0000000 at least"):
        assert part in shown.output
    printed = json.loads(runner.invoke(app, ["models", "export", "jina", "--onnx", "--json"]).stdout)
    (each,) = printed["exports"]
    assert each["path"] == str(place)
    assert each["cosine"]["lowest"] == exported.nearness.lowest
    assert each["speed_ratio"] == exported.nearness.speed
    # The group's other command may still be left out.
    listed = json.loads(runner.invoke(app, ["models", "--json"]).stdout)
    assert [model["name"] for model in listed["models"]] == ["jina"]
    one = runner.invoke(app, ["models", printed["model_version"][:12], "--json"])
    assert len(json.loads(one.stdout)["models"]) == 1


# In a process of its own, which a signal may end: a file cut short under a mapping is a SIGBUS.
_CUT_SHORT = """
import os, sys
from pathlib import Path
import numpy as np
from pipeline.encoders.onnx_backend import OnnxBackend
from pipeline.encoders.onnx_files import read_export

export = read_export(Path(sys.argv[1]))
backend = OnnxBackend(export)
ids = np.array([[5, 900, 1_500, 2]])

def run():
    return [backend.run(ids, np.ones_like(ids), role) for role in ("query", "document")]

before = run()
mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "model.onnx" in line]
assert not mapped or not sys.platform.startswith("linux"), mapped
for file in export.directory.glob("model.onnx*"):
    if sys.argv[2] == "cut short":
        os.truncate(file, 0)
    else:
        with file.open("r+b") as content:
            content.write(b"\\xff" * file.stat().st_size)
for one, other in zip(before, run(), strict=True):
    assert np.array_equal(one, other)
print("the same")
"""


@pytest.mark.parametrize("damage", ["cut short", "written over"])
def test_what_is_loaded_does_not_depend_on_its_files(copied: OnnxExports, damage: str) -> None:
    (export,) = (each for each in copied.directory.iterdir() if each.is_dir())
    assert (export / "model.onnx.data").stat().st_size > 0
    done = subprocess.run(
        [sys.executable, "-c", _CUT_SHORT, str(export), damage],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr
