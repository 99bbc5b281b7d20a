"""No file that the program is given is ever run: the calls that could do so are not in it.

Beside what tests of readers show, this finds the call that somebody adds to one that has no test.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# By their whole names, as the imports of a file make them.
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"),
    *("runpy.run_path", "runpy.run_module", "importlib.import_module"),
    *("importlib.util.spec_from_file_location", "importlib.machinery.SourceFileLoader"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "pickle._Unpickler"),
    # np.load opens pickles where it is told to, and zip archives whatever it is told.
    *("numpy.load", "jax.numpy.load", "numpy.lib.format.read_array", "pandas.read_pickle"),
    *("torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("os.system", "os.popen", "os.startfile", "shutil.unpack_archive", "ctypes.CDLL"),
}
# Of whatever object: what writes an archive's files where the archive wants them.
FORBIDDEN_METHODS = {"extractall", "run_path"}
# Packages that are pickles under another name.
FORBIDDEN_IMPORTS = {"shelve", "marshal", "dill", "cloudpickle", "joblib", "yaml"}
# Arguments that open what is shut by default, or shut what is open, with the values they may have.
ARGUMENTS = {
    "allow_pickle": {False},
    "shell": {False},
    "weights_only": {True},
    "trust_remote_code": {False},
}
# Calls that look at files of ours, at a recipe that is a program, or at what is installed.
ALLOWED = {
    ("uov_jax/config.py", "runpy.run_path"): "recipes are programs of the user's",
    ("uov_jax/command_line/console.py", "importlib.import_module"): "a file of its own folder",
    ("uov_jax/command_line/gpu_check.py", "runpy.run_path"): "a file of this checkout",
    ("uov_jax/command_line/gpu_sections.py", "importlib.import_module"): "one of this checkout",
    ("uov_jax/teachers/teacher.py", "importlib.import_module"): "one of a table of its own",
    ("uov_jax/checkpoints/files.py", "__import__"): "packages that it names itself",
    ("uov_jax/datasets/nuscenes_index.py", "numpy.load"): "the cache in the user's own folder",
    ("uov_jax/clouds/packages.py", "importlib.import_module"): "packages that callers name",
    ("uov_jax/input/builders.py", "pickle.loads"): "of its own error, before it is handed over",
    ("uov_jax/pickled.py", "pickle._Unpickler"): "every name in it stands for nothing that runs",
}


def sources() -> dict[str, ast.Module]:
    """The package, the commands and the recipes, by their paths."""
    folders = ("uov_jax", "scripts", "configs")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in paths}


def meanings(module: ast.Module) -> dict[str, str]:
    """What the names that a module imports stand for."""
    found: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or name] = name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return found


def whole_name(node: ast.expr, known: dict[str, str]) -> str:
    """Such as "numpy.load" of `np.load`; "" of what is no name."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = whole_name(node.value, known)
        return f"{before}.{node.attr}" if before else ""
    return ""


def dangers(module: ast.Module) -> Iterator[tuple[str, int]]:
    """What could run something, or write where it should not, each with its line."""
    known = meanings(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Name | ast.Attribute):
            name = whole_name(node, known)
            if name in FORBIDDEN:
                yield name, node.lineno
            elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_METHODS:
                yield node.attr, node.lineno
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            for name in names:
                if name and name.partition(".")[0] in FORBIDDEN_IMPORTS:
                    yield name, node.lineno
        elif isinstance(node, ast.Call):
            yield from wrong_arguments(node, whole_name(node.func, known))


def wrong_arguments(call: ast.Call, name: str) -> Iterator[tuple[str, int]]:
    for keyword in call.keywords:
        values = ARGUMENTS.get(keyword.arg or "", None)
        value = keyword.value.value if isinstance(keyword.value, ast.Constant) else "?"
        if values is not None and value not in values:
            yield f"{keyword.arg}={value}", call.lineno
    # Pillow runs other programs for some kinds of images.
    if name == "PIL.Image.open" and not any(k.arg == "formats" for k in call.keywords):
        yield name, call.lineno


def test_nothing_that_is_read_can_run() -> None:
    found = {
        (path, name): line for path, module in sources().items() for name, line in dangers(module)
    }
    told = [f"{path}:{line}: {name}" for (path, name), line in found.items()]
    assert not [line for line, where in zip(told, found, strict=True) if where not in ALLOWED]
    assert set(ALLOWED) <= set(found), "no longer there, so no longer to be allowed"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import numpy as np\nnp.load(path)", "numpy.load"),
        ("from numpy import load as read\nread(path)", "numpy.load"),
        ("import numpy\nnumpy.savez(path, allow_pickle=True)", "allow_pickle=True"),
        ("import pickle\nread = pickle.loads", "pickle.loads"),
        ("from torch import load\nload(path)", "torch.load"),
        ("def f():\n  import torch\n  return torch.load(p, weights_only=False)", "torch.load"),
        ("eval(text)", "eval"),
        ("archive.extractall(folder)", "extractall"),
        ("import subprocess\nsubprocess.run(line, shell=True)", "shell=True"),
        ("import subprocess\nsubprocess.run(line, shell=how)", "shell=?"),
        ("from yaml import safe_load", "yaml"),
        ("from PIL import Image\nImage.open(path)", "PIL.Image.open"),
        ("import runpy\nrunpy.run_path(path)", "runpy.run_path"),
    ],
)
def test_what_could_run_is_found(source: str, name: str) -> None:
    assert name in {found for found, _ in dangers(ast.parse(textwrap.dedent(source)))}


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import subprocess\nsubprocess.run([program], check=True)",
        "from PIL import Image\nImage.open(file, formats=('PNG',))",
        "import numpy as np\nnp.save(path, array, allow_pickle=False)",
        "import re\nre.compile('a')",
    ],
)
def test_what_is_harmless_is_not(source: str) -> None:
    assert not list(dangers(ast.parse(source)))
