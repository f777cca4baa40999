"""Imports go downward only, and never in a circle: who may import whom, and what only some rooms may use."""

from pathlib import Path

import pytest
from rooms import MAY_IMPORT, ONLY_IN, imports, modules

ROOT = Path(__file__).parent.parent


def broken_directions(root):
    known = modules(root, MAY_IMPORT)
    ours = {file.stem for file in root.iterdir() if file.is_dir() or file.suffix == ".py"}
    for name, file in sorted(known.items()):
        room = name.partition(".")[0]
        for line, module in imports(name, known):
            top = module.partition(".")[0]
            where = f"{file.relative_to(root)}:{line} imports {module}"
            if top in ours and top != room and top not in MAY_IMPORT[room]:
                yield f"{where}: {room} may import {', '.join(sorted(MAY_IMPORT[room])) or 'nothing of ours'}"
            if room not in ONLY_IN.get(top, {room}):
                yield f"{where}: only {', '.join(sorted(ONLY_IN[top]))} may"


def circles(root):
    known = modules(root, MAY_IMPORT)
    graph = {name: {module for _, module in imports(name, known, at_import=True)} & set(known) for name in known}
    done = set()

    def walk(name, path):
        if name in path:
            yield " imports ".join([*path[path.index(name) :], name])
        elif name not in done:
            for other in sorted(graph[name]):
                yield from walk(other, [*path, name])
            done.add(name)

    for name in sorted(graph):
        yield from walk(name, [])


def test_imports_go_downward_only():
    broken = list(broken_directions(ROOT))
    assert not broken, "\n" + "\n".join(broken)


def test_no_imports_go_in_a_circle():
    found = list(circles(ROOT))
    assert not found, "\n" + "\n".join(found)


def test_every_file_of_the_app_is_in_a_room():
    assert {file.stem for file in ROOT.glob("*.py")} <= MAY_IMPORT.keys()
    packages = {file.parent.name for file in ROOT.glob("*/*.py")} - {"tests", "benchmarks"}
    assert packages <= MAY_IMPORT.keys()


@pytest.fixture
def house(tmp_path):
    """Write these files, {path: source}, and return their folder."""

    def write(files):
        for name, source in ({"db.py": "", "store/__init__.py": "", "page/__init__.py": ""} | files).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(source)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "source",
    [
        "import db",
        "def late():\n    import db",
        "from db import fetch_page",
        "from page import answer",
        "import page.answer",
        "class A:\n    async def b(self):\n        from streamlit import App",
    ],
)
def test_an_import_that_goes_upward_is_named_with_its_file_and_line(house, source):
    root = house({"store/outbox.py": source, "page/answer.py": ""})
    (broken,) = broken_directions(root)
    assert broken.startswith(f"store/outbox.py:{source.count(chr(10)) + 1} imports ")


def test_an_import_that_goes_downward_or_stays_in_its_room_is_none(house):
    sources = {"page/answer.py": "import db, re\nfrom store import outbox\nfrom . import live", "page/live.py": ""}
    root = house(sources | {"store/outbox.py": "from store import postgres", "store/postgres.py": "import psycopg2"})
    assert not list(broken_directions(root))


def test_a_circle_is_found_and_one_that_only_runs_later_is_none(house):
    late = "if TYPE_CHECKING:\n    from page import a\ndef f():\n    from page import a"
    root = house({"page/a.py": "from page import b", "page/b.py": late})
    assert not list(circles(root))
    (root / "page/b.py").write_text("from page.a import x")
    assert list(circles(root)) == ["page.a imports page.b imports page.a"]
