"""The shape of the house: who imports whom, how long a file is, and what no file may do."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import redqubit

ROOT = Path(redqubit.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PARTS = sorted({(path.relative_to(ROOT).parts[0]).removesuffix(".py") for path in FILES} - {"__init__"})
GROUND = {"errors", "registry"}
MEASURES = {"data", "training", "metrics", "statistics", "quantum"}

# What each part may import of the package beside itself. `cli` may import everything.
MAY_IMPORT = {
    "errors": set[str](),
    "version": set[str](),
    "registry": {"errors"},
    "reading": {"errors"},
    "storage": {"errors", "reading"},
    "result": {"errors", "storage"},
    "device": {"errors"},
    "statistics": {"errors"},
    "training": {"errors"},
    "config": GROUND | {"reading"},
    "doctor": GROUND | {"models", "quantum", "version"},
    "data": GROUND | {"reading"},
    "quantum": GROUND,
    "metrics": GROUND | {"statistics"},
    "detection": {"errors", "statistics"},
    "explain": GROUND,
    "models": GROUND | {"quantum", "storage"},
    "search": {"errors", "runner"},
    "evasion": GROUND | MEASURES,
    "backdoors": GROUND | {"data", "metrics", "reading", "search", "storage"},
    "poisoning": GROUND | {"data", "quantum"},
    "defenses": GROUND | MEASURES | {"detection", "evasion", "models"},
    "adaptive": GROUND | MEASURES | {"defenses", "evasion"},
    "victims": GROUND | {"backdoors", "reading", "storage"},
    "report": {"errors", "reading", "result", "storage"},
    "tracking": GROUND | {"result"},
    "runner": {"config", "errors", "reading", "result", "storage", "version"},
    "sanity": GROUND | MEASURES | {"evasion", "models", "result"},
    "experiments": GROUND
    | MEASURES
    | {"adaptive", "backdoors", "config", "defenses", "defending", "device", "evasion", "explain", "models"}
    | {"poisoning", "result", "runner", "sanity", "search", "storage", "version", "victims"},
    "auditing": GROUND
    | MEASURES
    | {"adaptive", "backdoors", "config", "defenses", "device", "evasion", "models", "poisoning", "report", "result"}
    | {"runner", "sanity", "storage", "victims"},
    "defending": GROUND
    | MEASURES
    | {"auditing", "backdoors", "config", "defenses", "detection", "device", "models", "report", "result", "runner"}
    | {"reading", "storage", "victims"},
    "screening": GROUND
    | MEASURES
    | {"auditing", "config", "defenses", "detection", "device", "poisoning", "report", "result", "runner"}
    | {"reading", "storage"},
    "cli": set(PARTS),
}
STANDARD_LIBRARY_ONLY = (
    "errors.py",
    "version.py",
    "registry.py",
    "result.py",
    "storage/files.py",
    "quantum/circuit.py",
    "quantum/channels.py",
)
OPTIONAL = {"pennylane", "qiskit", "foolbox", "jax", "tensorcircuit", "ray", "art", "torchattacks", "mlflow", "pytest"}
DISTRIBUTIONS = {"yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn", "markupsafe": "jinja2"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def nodes(path: Path, *, top: bool = False) -> Iterator[ast.AST]:
    """Yield the nodes of a file, without what only a type checker sees; with `top`, without function bodies."""
    todo: list[ast.AST] = [tree(path)]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
        elif not (top and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            todo += ast.iter_child_nodes(node)


def imports(path: Path, *, top: bool = False) -> set[str]:
    """Return the dotted names that a file imports, modules of the package in full."""
    found = set()
    for node in nodes(path, top=top):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" if module == "redqubit" else module for alias in node.names}
    return found


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in nodes(path):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_the_walk_sees_what_it_should() -> None:
    cli = next(path for path in FILES if name_of(path) == "cli/reproduce.py")
    assert {"redqubit.experiments", "redqubit.report", "typer"} <= imports(cli)
    assert "redqubit.experiments" not in imports(cli, top=True)
    assert "redqubit.auditing" not in imports(ROOT / "__init__.py")  # for the type checker alone
    assert len(FILES) > 40


@pytest.mark.tiny
def test_every_part_imports_only_what_stands_below_it() -> None:
    assert set(PARTS) == set(MAY_IMPORT)
    for path in FILES:
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        inside = {name.split(".")[1] for name in imports(path) if name.startswith("redqubit.")}
        assert inside <= MAY_IMPORT[part] | {part}, f"{name_of(path)} imports {inside - MAY_IMPORT[part] - {part}}"


def test_no_two_parts_need_each_other() -> None:
    order = list[str]()
    left = {part: set(needs) - {part} for part, needs in MAY_IMPORT.items()}
    while left:
        free = [part for part, needs in left.items() if needs <= set(order)]
        assert free, f"a circle among {sorted(left)}"
        order += free
        left = {part: needs for part, needs in left.items() if part not in free}


def test_a_method_imports_no_sibling_but_base() -> None:
    for path in FILES:
        part = path.parent.name
        if part in ("evasion", "backdoors", "poisoning", "defenses") and path.stem not in ("__init__", "base"):
            siblings = {name for name in imports(path) if name.startswith(f"redqubit.{part}")}
            assert siblings <= {f"redqubit.{part}.base"}, name_of(path)


def test_plain_data_needs_the_standard_library_alone() -> None:
    for file in STANDARD_LIBRARY_ONLY:
        outside = {name.split(".")[0] for name in imports(ROOT / file)} - set(sys.stdlib_module_names)
        assert outside <= {"redqubit"}, file


def test_optional_packages_are_never_needed_to_import() -> None:
    for path in FILES:
        assert not {name.split(".")[0] for name in imports(path, top=True)} & OPTIONAL, name_of(path)


def test_what_is_imported_is_declared() -> None:
    project = ROOT.parents[1] / "pyproject.toml"
    if not project.exists():
        pytest.skip("the package is installed without its pyproject.toml")
    declared = {line.split(">")[0] for line in tomllib.loads(project.read_text())["project"]["dependencies"]}
    used = {name.split(".")[0] for path in FILES for name in imports(path)}
    outside = used - set(sys.stdlib_module_names) - {"redqubit"} - OPTIONAL
    assert {DISTRIBUTIONS.get(name, name) for name in outside} == declared


def test_files_are_short_and_say_what_they_are() -> None:
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 400, f"{name_of(path)} has {len(lines)} lines"
        assert ast.get_docstring(tree(path)) or name_of(path) == "version.py", f"{name_of(path)} has no docstring"
        assert path.stem not in ("utils", "helpers", "common", "misc")


def test_only_the_command_line_prints() -> None:
    for path in FILES:
        if path.parent.name != "cli":
            used = {name for name, _ in calls(path)}
            assert not used & {"print", "input", "sys.stdout.write", "sys.stderr.write", "typer.echo"}, name_of(path)


def test_only_data_and_the_command_line_read_the_environment() -> None:
    for path in FILES:
        if path.parent.name not in ("data", "cli") and path.name != "cluster.py":  # which sets what Ray reads there
            assert "os.environ" not in path.read_text(encoding="utf-8"), name_of(path)
            assert "getenv" not in path.read_text(encoding="utf-8"), name_of(path)


def test_nothing_is_unpickled_or_evaluated() -> None:
    for path in FILES:
        assert not {name.split(".")[0] for name in imports(path)} & {
            "pickle",
            "dill",
            "cloudpickle",
            "joblib",
            "shelve",
        }
        for name, call in calls(path):
            assert name not in ("eval", "exec", "yaml.load", "yaml.unsafe_load"), name_of(path)
            if name == "torch.load":  # which runs nothing when it takes weights alone
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                assert given.get("weights_only") == "True", name_of(path)
            for keyword in call.keywords:
                allowed = keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False"
                assert allowed, f"{name_of(path)}:{call.lineno}"


DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"}
DRAWS_GLOBALLY = {"rand_like", "randn_like", "randint_like"}  # which take no generator
INITS = {"uniform_", "normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"}


def test_randomness_comes_from_a_generator_alone() -> None:
    for path in FILES:
        assert not imports(path) & {"random", "numpy.random"}, name_of(path)
        for name, call in calls(path):
            where = f"{name_of(path)}:{call.lineno} {name}"
            module, _, function = name.rpartition(".")
            if function in ("manual_seed", "manual_seed_all"):
                # a cell sets torch's own generator for models of other people
                assert module == "torch.Generator()" or where.startswith("runner/cells.py"), where
            if name.startswith(("np.random.", "numpy.random.")):
                assert (function, bool(call.args)) == ("default_rng", True), where  # never unseeded
            assert not (module == "torch" and function in DRAWS_GLOBALLY | {"seed", "set_rng_state"}), where
            if (module == "torch" and function in DRAWS) or (module.endswith("init") and function in INITS):
                assert "generator" in {keyword.arg for keyword in call.keywords}, where
            # their constructors draw from torch's own generator
            assert name not in ("nn.Linear", "nn.Conv2d", "nn.Embedding", "torch.nn.Linear"), where


def test_the_package_the_help_and_the_report_load_no_torch() -> None:
    program = """
import sys
import redqubit
from redqubit import cli, report, result
for arguments in (["--help"], ["--version"], ["audit", "--help"], ["reproduce", "--help"]):
    try:
        cli.main(arguments)
    except SystemExit as end:
        assert end.code == 0, end.code
assert not {"torch", "scipy", "sklearn"} & set(sys.modules), "too much is loaded"
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert f"redqubit {redqubit.__version__}" in ended.stdout


def test_public_names_are_there_and_no_others() -> None:
    for name in redqubit.__all__:
        assert getattr(redqubit, name) is not None
    assert dir(redqubit) == sorted(redqubit.__all__)
    assert len(redqubit.__all__) < 40
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        redqubit.nothing  # noqa: B018
