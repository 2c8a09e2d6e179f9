"""How the code is kept: `python -m benchmarks.house [--json]`.

Prints the modules of each folder, the circles and the longest chain of imports, how long functions and modules are, how many
functions are typed and public names documented, and how many source files it took to add an option. Exits with 1 if a limit is
broken. Imports inside functions and under TYPE_CHECKING count.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path

import grimp

from benchmarks.timing import machine

ROOT = Path(__file__).parent.parent
SOURCES = [init.parent for parts in ("*", "plugins/*") for init in sorted(ROOT.glob(f"{parts}/src/*/__init__.py"))]
# The commits that add these are found by their subjects.
OPTIONS = ("topology_spread_constraints", "host_network")
LONG_MODULE = 400
# What a figure may be at most.
LIMITS = {
    "circles": 0,
    "function lines, median": 7,
    "function lines, 95th percentile": 24,
    "function lines, longest": 56,
    "functions without types": 0,
    "public names without documentation": 0,
    f"modules over {LONG_MODULE} lines": 0,
    **{f"source files touched to add {option}": 3 for option in OPTIONS},
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Figures = dict[str, float | None]


def main() -> None:
    """Print the figures, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    folders = Counter(str(module.parent.relative_to(ROOT)) for module in _modules())
    graph = grimp.build_graph(*(package.name for package in SOURCES), cache_dir=None)
    circles = circles_of(graph)
    chains = {package.name: longest_chain(graph, package.name) for package in SOURCES}
    floors = {package.name: _floors(graph, package.name) for package in SOURCES}
    figures = {
        "circles": float(len(circles)),
        **code_figures(_modules()),
        **{_touched(o): files_to_add(o) for o in OPTIONS},
    }
    _show(folders, circles, chains, floors, figures)
    broken = [name for name, limit in LIMITS.items() if (figures[name] or 0) > limit]
    if arguments.json:
        settings = {**machine(), "limits": LIMITS}
        print(
            json.dumps(
                {
                    "settings": settings,
                    "folders": folders,
                    "chains": chains,
                    "floors": floors,
                    "figures": figures,
                    "broken": broken,
                }
            )
        )
    sys.exit(1 if broken else 0)


def _modules() -> Iterator[Path]:
    return (module for package in SOURCES for module in sorted(package.rglob("*.py")))


def circles_of(graph: grimp.ImportGraph) -> list[list[str]]:
    """The largest sets of modules that all import each other, directly or not."""
    circles = {_circle(graph, module) for module in graph.modules}
    return sorted(sorted(circle) for circle in circles if len(circle) > 1)


def _circle(graph: grimp.ImportGraph, module: str) -> frozenset[str]:
    return frozenset({module} | (graph.find_upstream_modules(module) & graph.find_downstream_modules(module)))


def longest_chain(graph: grimp.ImportGraph, package: str) -> list[str]:
    """The longest way through the imports of a package, downwards; a circle counts as one step."""
    inside = {module for module in graph.modules if f"{module}.".startswith(f"{package}.")}

    @cache
    def below(module: str) -> list[str]:
        circle = _circle(graph, module)
        imported = set().union(*(graph.find_modules_directly_imported_by(member) for member in circle))
        return [module, *max((below(name) for name in sorted(imported & inside - circle)), key=len, default=[])]

    return max((below(module) for module in sorted(inside)), key=len)


def _floors(graph: grimp.ImportGraph, package: str) -> list[str]:
    """The longest chain of what lies side by side in a package: its modules, and its folders as one each."""
    rooms = deepcopy(graph)
    for room in rooms.find_children(package):
        rooms.squash_module(room)
    return [room for room in longest_chain(rooms, package) if room != package]


def code_figures(modules: Iterable[Path]) -> Figures:
    """The figures of functions, names and lines in some modules."""
    trees = {module: ast.parse(module.read_text("utf-8")) for module in modules}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, Function)]
    lines = sorted(function.end_lineno - function.lineno + 1 for function in functions if function.end_lineno)
    public = [node for tree in trees.values() for node in _public(tree)]
    return {
        "functions": len(functions),
        "function lines, median": statistics.median(lines),
        "function lines, 95th percentile": lines[len(lines) * 95 // 100],
        "function lines, longest": lines[-1],
        "functions without types": sum(not _typed(function) for function in functions),
        "public names": len(public),
        "public names without documentation": sum(ast.get_docstring(node) is None for node in public),
        "modules": len(trees),
        f"modules over {LONG_MODULE} lines": sum(
            len(module.read_text("utf-8").splitlines()) > LONG_MODULE for module in trees
        ),
    }


def _typed(function: Function) -> bool:
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return function.returns is not None and all(
        argument.annotation for argument in arguments if argument and argument.arg not in {"self", "cls"}
    )


def _public(node: ast.Module | ast.ClassDef) -> Iterator[ast.Module | ast.ClassDef | Function]:
    """A module or class, and the public classes, functions and methods in it."""
    yield node
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from _public(child)
        if isinstance(child, Function) and not child.name.startswith("_") and not _specified(node, child):
            yield child


def _specified(parent: ast.Module | ast.ClassDef, function: Function) -> bool:
    """Whether its documentation lies elsewhere: with the base's method, the hookspec, the getter or the implementation."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    overrides = isinstance(parent, ast.ClassDef) and bool(parent.bases) and ast.get_docstring(function) is None
    return bool(decorators & {"hookimpl", "setter", "overload"}) or (overrides and function.name in _specifications())


@cache
def _specifications() -> set[str]:
    """The names of documented methods: what a base class says is not said again where it is overridden."""
    trees = (ast.parse(module.read_text("utf-8")) for module in _modules())
    classes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return {m.name for c in classes for m in c.body if isinstance(m, Function) and ast.get_docstring(m)}


def _touched(option: str) -> str:
    return f"source files touched to add {option}"


def files_to_add(option: str) -> float | None:
    """How many source files the commit touched that added an option; None where Git's history does not have it."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "log",
        "--reverse",
        "--fixed-strings",
        f"--grep={option}",
        "--format=%x00%s",
        "--name-only",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for commit in done.stdout.split("\0")[1:]:
        subject, *files = commit.split("\n")
        touched = [file for file in files if "/src/" in file]
        if option in subject and touched:
            return len(touched)
    return None


def _show(
    folders: Mapping[str, int],
    circles: list[list[str]],
    chains: Mapping[str, list[str]],
    floors: Mapping[str, list[str]],
    figures: Figures,
) -> None:
    for folder, modules in folders.items():
        print(f"{folder:60} {modules:3} modules")
    for title, longest in {"modules": chains, "modules and folders side by side": floors}.items():
        print(f"\nlongest chain of imports, {title}:")
        for package, chain in longest.items():
            print(f"{package:20} {len(chain):3}  {' → '.join(module.removeprefix(f'{package}.') for module in chain)}")
    for circle in circles:
        print(f"\ncircle: {', '.join(circle)}")
    print()
    for name, figure in figures.items():
        shown = "not found" if figure is None else f"{figure:,.10g}"
        limit = f"   at most {LIMITS[name]}" if name in LIMITS else ""
        print(f"{name:60} {shown:>9}{limit}")


if __name__ == "__main__":
    main()
