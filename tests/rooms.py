"""The rooms of the project: who may import whom, and who does, read from the source."""

import ast

# room: the rooms it may import. A room is a folder, or a file at the top without its .py.
MAY_IMPORT = {
    "serve": {"store", "model", "utils", "db"},
    "app": {"page", "store", "model", "utils", "db"},
    "page": {"store", "model", "utils", "db"},
    "utils": set(),
    "model": set(),
    "db": {"store"},
    "store": set(),
    "train": {"evaluate", "training", "model", "utils", "db"},
    "evaluate": {"training", "model", "utils", "db"},
    "learn": {"train", "evaluate", "training", "store", "model", "utils", "db"},
    "training": {"utils"},
    "deploy": set(),
}
# package: the only rooms that may import it
ONLY_IN = {
    "streamlit": {"serve", "app", "page"},
    "torch": {"model", "utils", "train", "evaluate", "learn", "training"},
    "psycopg2": {"db", "store"},
}


def modules(root, rooms):
    """{name: file} of all modules in these rooms: folders, or files at the top without their .py."""
    files = [file for room in rooms for file in [root / f"{room}.py", *(root / room).rglob("*.py")] if file.exists()]
    names = {".".join(file.relative_to(root).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in names.items()}


def imports(name, known, at_import=False):
    """Yield (line, module) of each import in this module; at_import: only of those that its own import carries out.

    known: as from modules(). What is imported from one of them is that module, or else a module in it.
    """
    package = name if known[name].stem == "__init__" else name.rpartition(".")[0]
    waiting = [ast.parse(known[name].read_text())]
    while waiting:
        node = waiting.pop()
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package, node.module])) if node.level else node.module
            whole = [f"{base}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, module if module in known else base) for module in whole)
