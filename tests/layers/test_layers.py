"""The architecture, read from the sources: who includes whom, how long files are, what is exported."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SHRINKD_BUILD", ROOT / "build"))  # for generated headers

# What a file of a layer may name in quotes beyond its own layer's headers.
MAY_INCLUDE = {
    "base": [],
    "engine": [r"base/"],
    "storage": [r"base/"],
    "server": [r"base/", r"engine/shrink\.h$", r"storage/store\.h$"],
    "api": [r"base/", r"server/service\.h$"],
}
COMPOSITION_ROOT = "server/main.c"

# Inside the engine, each folder may use those before it.
ENGINE_ORDER = ["core", "kernels", "graph", "ops", "onnx", "exec", "data", "train", "eval", "passes"]

# Libraries that one place alone may know.
ONLY_IN = {
    "microhttpd.h": r"^api/http\w*\.[ch]$",
    "sqlite3.h": r"^(tests/)?storage/",
    "uv.h": r"^server/",
    "jansson.h": r"^(server|api|clients|tests)/",
    "onnx.pb-c.h": r"^(tests/)?engine/onnx/",
    "zlib.h": r"^(tests/)?engine/(data|eval)/",
    "cmocka.h": r"^tests/",
}

LINES_AT_MOST = 1000


def sources(*folders):
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.[ch]"))]
    assert found, folders
    return found


def includes(path):
    return re.findall(r'^\s*#\s*include\s+["<]([^">]+)[">]', path.read_text(), re.M)


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("layer", MAY_INCLUDE)
def test_a_layer_includes_only_what_is_below_it(layer):
    for path in sources(layer):
        if name(path) == COMPOSITION_ROOT:
            continue
        for header in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M):
            first = header.split("/")[0]
            if first in MAY_INCLUDE and "/" in header and not (ROOT / layer / header).exists():
                assert any(re.match(rule, header) for rule in MAY_INCLUDE[layer]), \
                    f"{name(path)} includes {header}"
            assert not header.startswith(".."), f"{name(path)} includes {header}"


def test_the_engine_s_folders_use_only_those_before_them():
    for path in sources("engine"):
        parts = path.relative_to(ROOT / "engine").parts
        if len(parts) < 2:
            continue
        for header in includes(path):
            folder = header.split("/")[0]
            if folder in ENGINE_ORDER and "/" in header:
                assert ENGINE_ORDER.index(folder) <= ENGINE_ORDER.index(parts[0]), \
                    f"{name(path)} includes {header}"


@pytest.mark.parametrize("header", ONLY_IN)
def test_a_library_is_known_in_one_place(header):
    for path in sources("base", "engine", "storage", "server", "api", "clients", "tests"):
        if header in includes(path):
            assert re.search(ONLY_IN[header], name(path)), f"{name(path)} includes {header}"


def test_every_file_opens_by_saying_what_it_owns():
    for path in sources("base", "engine", "storage", "server", "api", "clients", "tests"):
        assert path.read_text().startswith("/*"), name(path)


def test_files_stay_readable():
    for path in sources("base", "engine", "storage", "server", "api", "clients"):
        assert len(path.read_text().splitlines()) <= LINES_AT_MOST, name(path)


def headers():
    return [name(path) for path in sources("base", "engine", "storage", "server", "api")
            if path.suffix == ".h"]


@pytest.mark.parametrize("header", headers())
def test_a_header_compiles_alone(header):
    layer = header.split("/")[0]
    isa = []
    if re.search(r"/(avx2|f32|vf|vnni|lanes)", header):
        isa += ["-mavx2", "-mfma", "-DSHR_VNNI=alone"]
    if "avx512" in header:
        isa += ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"]
    subprocess.run(
        ["gcc", *isa, "-std=c11", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
         f"-I{ROOT}", f"-I{ROOT / layer}",
         f"-I{BUILD / 'engine/onnx'}", "-x", "c", "-"],
        input=f'#include "{header}"\n', text=True, check=True)


def test_the_sources_are_formatted():
    formatter = shutil.which("clang-format") or shutil.which("clang-format-14")
    assert formatter, "clang-format is missing"
    files = sources("base", "engine", "storage", "server", "api", "clients", "tests")
    subprocess.run([formatter, "--dry-run", "-Werror", *map(str, files)], check=True, cwd=ROOT)


def test_the_reading_order_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:base|engine|storage|server|api|clients|tests)/[\w/.]+\.\w+)`", text)
    assert len(named) > 10
    for file in named:
        assert (ROOT / file).exists(), file


def test_the_project_stands_alone():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, text=True,
                             stdout=subprocess.PIPE).stdout.split()
    for file in tracked:
        path = ROOT / file
        if path.suffix in (".onnx", ".npz", ".png") or not path.is_file() or path == pathlib.Path(__file__):
            continue
        text = path.read_bytes().decode(errors="ignore")
        for word in ("/work/", "../shared"):
            assert word not in text, f"{file} names {word}"
