"""What the program says to its users, read from its code: every message with "..." where it fills.

A message is what an exception of the package is made of, or a warning, or what a parser refuses, or
what goes to standard error. One that only passes other text on, such as `f"{path}: {error}"`, is
followed to where its module makes that text, and else left out.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILLED = "..."
LEAST_WORDS = 2  # with fewer of its own, a message passes on what others say
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# `self.error(...)` and `parser.error(...)`, `warnings.warn(...)`, and what is raised by parsers of
# options and by setup.py.
MAKERS = {"error", "warn", "ArgumentTypeError", "PlatformError"}
# What `uov_jax.config` and setuptools show of recipes and of setup.py.
MAKERS_OF = {"configs": {"ValueError"}, "setup.py": {"RuntimeError"}}


@dataclasses.dataclass(frozen=True)
class Message:
    """A message, and where it is made, such as "uov_jax/config.py:32"."""

    place: str
    text: str


def squeezed(text: str) -> str:
    """A text in one line, with one mark for what is filled in, however long."""
    return re.sub(r"\.{3,}", FILLED, " ".join(text.split()))


def num_words(text: str) -> int:
    """The words in a text that are always the same."""
    return len(re.findall(r"[A-Za-z]{2,}", text))


def parsed() -> dict[str, ast.Module]:
    """The program's modules by their paths."""
    paths = [ROOT / "setup.py", *(ROOT / "uov_jax").rglob("*.py"), *(ROOT / "configs").glob("*.py")]
    paths.append(ROOT / "csrc" / "cuda" / "nvcc.py")
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8"))
        for path in sorted(paths)
    }


def messages(modules: Mapping[str, ast.Module]) -> list[Message]:
    """All messages of some modules, each text once."""
    makers = MAKERS | exceptions(modules)
    found: dict[str, Message] = {}
    for path, module in modules.items():
        own = makers | MAKERS_OF.get(path.partition("/")[0], set())
        for node, around in _calls(module):
            if not (_name(node.func) in own or _to_standard_error(node)) or not node.args:
                continue
            for made in _texts(node.args[0], around, module):
                text = squeezed(_pattern(made))
                if num_words(text) >= LEAST_WORDS:
                    found.setdefault(text, Message(f"{path}:{made.lineno}", text))
    return list(found.values())


def exceptions(modules: Mapping[str, ast.Module]) -> set[str]:
    """The names of the modules' own exceptions, and of those of the package that they may raise."""
    bases = {
        node.name: {_name(base) for base in node.bases}
        for module in modules.values()
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
    }
    known = {name for name, kind in vars(builtins).items() if _is_exception(kind)}
    known |= {"UserError", "InputError", "MissingFileError"}
    size = 0
    while size != len(known):
        size = len(known)
        known |= {name for name, parents in bases.items() if parents & known}
    return known - set(vars(builtins))


def literals(modules: Mapping[str, ast.Module]) -> set[str]:
    """Every text in the program that is no documentation: of its Python, its C++, its Makefile."""
    found = {squeezed(line) for line in (ROOT / "Makefile").read_text("utf-8").splitlines()}
    for path in (ROOT / "csrc").rglob("*.cpp"):
        joined = re.sub(r'"\s*\n\s*"', "", path.read_text("utf-8"))
        found |= {squeezed(text) for text in re.findall(r'"((?:[^"\\\n]|\\.)*)"', joined)}
    for module in modules.values():
        documentation = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
        for node in ast.walk(module):
            if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
                if id(node) not in documentation:
                    found.add(squeezed(_pattern(node)))
    return found


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _name(node: ast.expr) -> str:
    """The last part of a dotted name, "" for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _to_standard_error(node: ast.Call) -> bool:
    return _name(node.func) == "print" and any(_name(k.value) == "stderr" for k in node.keywords)


def _pattern(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_pattern, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _pattern(node.left) + _pattern(node.right)
    return FILLED


def _calls(
    node: ast.AST, around: tuple[ast.FunctionDef, ...] = ()
) -> Iterator[tuple[ast.Call, tuple[ast.FunctionDef, ...]]]:
    """All calls, each with the functions that it stands in, the innermost last."""
    if isinstance(node, FUNCTIONS):
        around = (*around, node)
    if isinstance(node, ast.Call):
        yield node, around
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, around)


def _texts(
    node: ast.expr, around: tuple[ast.FunctionDef, ...], module: ast.Module
) -> Iterator[ast.expr]:
    """What a message is made of: it itself, or where it only passes on others, these."""
    if num_words(squeezed(_pattern(node))) >= LEAST_WORDS:
        yield node
        return
    filled = [part.value for part in ast.walk(node) if isinstance(part, ast.FormattedValue)]
    for value in filled or [node]:
        if isinstance(value, ast.Name) and around:
            for source in [*_assigned(value.id, around[-1]), *_given(value.id, around, module)]:
                yield from _returned(source, module) if isinstance(source, ast.Call) else [source]
        elif isinstance(value, ast.Call):
            yield from _returned(value, module)


def _assigned(name: str, function: ast.FunctionDef) -> Iterator[ast.expr]:
    """What a function assigns to a name of its own."""
    for node in ast.walk(function):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.NamedExpr):
            targets = [node.target]
        if any(_name(target) == name for target in targets):
            yield node.value


def _given(
    name: str, around: tuple[ast.FunctionDef, ...], module: ast.Module
) -> Iterator[ast.expr]:
    """What the module's calls of a function give for the parameter of that name."""
    for function in around:
        parameters = [parameter.arg for parameter in function.args.args]
        if name not in parameters:
            continue
        number = parameters.index(name) - (parameters[0] == "self")
        for node, _ in _calls(module):
            if _name(node.func) == function.name:
                yield from node.args[number : number + 1]
                yield from (k.value for k in node.keywords if k.arg == name)


def _returned(call: ast.Call, module: ast.Module) -> Iterator[ast.expr]:
    """What the module's function of a call's name returns, if it returns a text."""
    for function in ast.walk(module):
        if isinstance(function, FUNCTIONS) and function.name == _name(call.func):
            if function.returns is not None and _name(function.returns) == "str":
                for node in ast.walk(function):
                    if isinstance(node, ast.Return) and node.value is not None:
                        yield node.value
