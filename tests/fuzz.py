"""Feed the preprocessing, the database module and the running app what no decent browser would send.

    python tests/fuzz.py --seed 1 --payloads 10000 --calls 10000 --messages 2000

Everything must end in a plain refusal or a sensible answer, memory must stay flat, and a decent visitor beside must not
notice. The same seed makes the same input. What goes wrong is told apart and the run goes on: FAULT is the app's,
OWN_ERROR this program's, each with its traceback where it is the first of its kind. Ends with 1 after a fault of the
app's, else with 2 after an error of its own.
"""

import argparse
import contextlib
import http.client
import io
import json
import logging
import math
import os
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
import uuid
import zlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import psutil
from chaos import App
from PIL import Image
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from visitor import Visitor, scribble
from websockets.exceptions import WebSocketException

sys.path.insert(0, str(Path(__file__).parent.parent))

HOURS = 1  # at most; a run of ten thousand takes some minutes
MEMORY = 100e6  # bytes: what caches and fragmentation may take; a leak of a picture a payload would be far above
FAULT, OWN_ERROR, NOT_NOW = "fault of the app", "error of fuzz.py itself", "could not be made up now"
seen = set()  # the kinds of what went wrong so far


class NotNow(Exception):
    """The page does not hold what a message would be made of: what was sent before may have left it out."""


class TooLong(BaseException):
    """Caught by nothing that goes on."""


def count(outcomes, outcome):
    outcomes[outcome] = outcomes.get(outcome, 0) + 1


@contextlib.contextmanager
def blame(outcomes, whose):
    """Count what is raised in here as this one's, say it, and go on behind."""
    try:
        yield
    except NotNow:
        count(outcomes, NOT_NOW)
    except Exception as error:
        count(outcomes, whose)
        kind = type(error), tuple(frame.lineno for frame in traceback.extract_tb(error.__traceback__)[-2:])
        if kind not in seen:
            seen.add(kind)
            print(f"{whose}:", *traceback.format_exception(error), file=sys.stderr)


def try_out(outcomes, make, feed):
    """Make something up and count what becomes of it."""
    with blame(outcomes, OWN_ERROR):
        made = make()
        with blame(outcomes, FAULT):
            count(outcomes, feed(made))


# --- what a hostile browser may call a drawing ------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(chance, mode, width, height):
    channels = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 2}[mode]
    noise = np.frombuffer(chance.randbytes(width * height * channels), np.uint8)
    if mode in ("1", "P", "I;16"):
        image = Image.frombytes(mode if mode != "1" else "L", (width, height), noise.tobytes()).convert(mode)
    else:
        image = Image.frombytes(mode, (width, height), noise.tobytes())
    extra = {"save_all": True, "append_images": [image] * 3} if chance.random() < 0.1 else {}  # animated
    image.save(out := io.BytesIO(), format="PNG", **extra)
    return out.getvalue()


def raw_png(width, height, depth, color, interlace, data, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def specks(chance):
    """Ink of single pixels, far apart and of any brightness."""
    canvas = np.zeros((*chance.choices(range(1, 1121), k=2), 4), np.uint8)
    canvas[..., 3] = chance.choice((255, 255, chance.randrange(256)))
    for _ in range(chance.choice((0, 1, 2, 3, 20))):
        canvas[chance.randrange(canvas.shape[0]), chance.randrange(canvas.shape[1]), :3] = chance.randrange(256)
    Image.fromarray(canvas).save(out := io.BytesIO(), format="PNG")
    return out.getvalue()


def payload(chance):
    """Something in place of a PNG: bytes for the most part."""
    kind = chance.randrange(12)
    if kind == 0:
        return chance.choice((None, 7, "a string", "", b"", [], {}, 1.5, bytearray(b"\x89PNG"), object()))
    if kind == 1:
        return chance.randbytes(chance.randrange(2000))
    if kind == 2:
        return png_of(chance, chance.choice(("1", "L", "P", "LA", "RGB", "RGBA", "I;16")), *sizes(chance))
    if kind == 3:
        return specks(chance)
    if kind == 4:  # claims any size, holds little
        size = [chance.choice((0, 1, 280, 1120, 1121, 13_000, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
        row = zlib.compress(bytes(chance.randrange(5000)))
        return raw_png(*size, chance.choice((1, 2, 4, 8, 16, 3)), chance.randrange(8), chance.randrange(3), row)
    if kind == 5:  # holds a thousand times what it claims
        bomb = zlib.compress(bytes(chance.choice((10**5, 10**7))))
        text = chunk(b"zTXt", b"a\0\0" + bomb) if chance.random() < 0.5 else chunk(b"iCCP", b"a\0\0" + bomb)
        return raw_png(28, 28, 8, 0, 0, bomb, text)
    if kind == 6:
        Image.new("RGB", (28, 28)).save(
            out := io.BytesIO(), format=chance.choice(("JPEG", "GIF", "BMP", "TIFF", "WEBP"))
        )
        return out.getvalue()
    if kind == 7:
        return bytes(chance.choice((0, 255)) for _ in range(4)) * chance.randrange(400_000)
    good = bytearray(scribble(chance))
    if kind == 8:
        return bytes(good[: chance.randrange(len(good))])
    if kind == 9:
        for _ in range(chance.randint(1, 20)):
            good[chance.randrange(len(good))] = chance.randrange(256)
        return bytes(good)
    if kind == 10:
        at = chance.randrange(len(good))
        return bytes(good[:at]) + chance.randbytes(chance.randrange(100)) + bytes(good[at:])
    return bytes(good)


def sizes(chance):
    limit = chance.choice((3, 300, 300, 1200))
    return chance.randint(1, limit), chance.randint(1, limit)


def try_payload(png):
    """Take a payload all the way. Returns "refused", "empty" or "read"; anything that is not one of these raises."""
    import db
    from utils import DrawingError, decode_drawing, encode_png, preprocess

    try:
        rgba = decode_drawing(png)
        picture = preprocess(rgba)
        stored = encode_png(rgba)
    except DrawingError as error:
        assert str(error), "a refusal without words"
        return "refused"
    assert rgba.dtype == np.uint8 and rgba.ndim == 3 and rgba.shape[2] == 4
    db.thumbnail(stored)
    if picture is None:
        return "empty"
    assert picture.shape == (1, 1, 28, 28) and 0 <= picture.min() <= picture.max() <= 1, picture
    return "read"


# --- calls into db.py -------------------------------------------------------------------------------------------------


def value(chance, good):
    """`good`, for the most part; else a value that does not belong there."""
    if chance.random() < 0.8:
        return good
    return chance.choice(
        (
            *(
                None,
                True,
                "",
                "7",
                "'; DROP TABLE predictions; --",
                "%s",
                "%(id)s",
                b"\x89PNG",
                "a\0b",
                "\ud800",
                "é" * 99,
            ),
            *(-1, 10, 10**30, 0.5, -0.0, 1.0000001, math.nan, math.inf, -math.inf, 1 + 2j, 5e-324),
            *([], {}, [0.1] * 9, [0.1] * 10, [None] * 10, ["0.1"] * 10, [[0.1]] * 10, [math.nan] * 10, range(10)),
            *(
                np.float32(0.5),
                np.int64(7),
                np.array([0.1] * 10),
                np.array(3),
                np.nan,
                object(),
                ValueError,
                uuid.UUID(int=0),
            ),
            *(
                datetime.min,
                datetime.max.replace(tzinfo=UTC),
                datetime.now(),
                datetime.now(timezone(timedelta(hours=-14))),
            ),
            *(chance.randbytes(50), b"\x89PNG" + chance.randbytes(chance.choice((10, 262_140, 262_141))), bytearray(9)),
        )
    )


def call(chance, ids):
    """A call of db.py, (function's name, arguments, keywords), that may be wrong in any of its values."""
    drawing_id, good = value(chance, chance.choice(ids)), raw_png(1, 1, 8, 0, 0, zlib.compress(chance.randbytes(2)))
    match chance.randrange(4):
        case 0:
            return "save_label", (drawing_id, value(chance, chance.randrange(10))), {}
        case 1:
            return "fetch_drawing", (drawing_id,), {}
    return (
        "save_prediction",
        (drawing_id,),
        {
            "created_at": value(chance, datetime.now(UTC)),
            "digit": value(chance, chance.randrange(10)),
            "confidence": value(chance, chance.random()),
            "probabilities": value(chance, [chance.random() for _ in range(10)]),
            "not_a_digit": value(chance, chance.random()),
            "drawing": value(chance, good),
            "model_version": value(chance, "0123456789ab"),
        },
    )


def try_call(made):
    """Call db.py once. Returns "done" or the name of the refusal; raises what is no clean refusal."""
    import db

    name, arguments, keywords = made
    try:
        getattr(db, name)(*arguments, **keywords)
    except (TypeError, ValueError, db.Refused, db.NoSuchDrawing) as error:
        assert str(error), "a refusal without words"
        return type(error).__name__
    return "done"


def check_table():
    """Every row can be read, and none holds what db.py should have refused."""
    import db

    frame = db.fetch_predictions()
    assert frame["predicted_digit"].between(0, 9).all() and frame["true_label"].dropna().between(0, 9).all()
    assert frame["confidence"].between(0, 1).all() and frame["not_a_digit"].between(0, 1).all()
    assert all(len(p) == 10 and 0 <= min(p) <= max(p) <= 1 for p in frame["probabilities"])
    return len(frame)


# --- messages to the running app --------------------------------------------------------------------------------------


MILLION = '{"raw": {"objects": [' + "1," * 1_000_000 + '1]}, "data": null}'


def hostile_json(chance):
    """In place of a canvas's state."""
    url = "data:image/png;base64,"
    deep = chance.choice((10, 1000, 100_000))
    return chance.choice(
        (
            *("", "null", "7", '"text"', "[]", "{}", "{", "NaN", "1e999", "[" * deep, "[" * deep + "]" * deep),
            *('{"a":' * deep + "1" + "}" * deep, "9" * 6000, '{"drawing": ' + "9" * 6000 + "}", '{"drawing": 7}'),
            *('{"drawing": null}', '{"drawing": []}', '{"drawing": {"data": 7}}', '{"drawing": {"data": []}}'),
            *('{"drawing": {"data": "javascript:alert(1)"}}', '{"drawing": {"data": "' + url + '!!!"}}'),
            *('{"drawing": {"data": "' + url + "A" * 900_000 + '"}}', '{"drawing": ' + MILLION + "}"),
            *('{"backgroundFit": {}}', '{"backgroundFit": 7}', '{"drawing": {"raw": 7, "data": null}}'),
        )
    )  # fmt: skip


def hostile_message(chance, visitor):
    """A message of Streamlit's own protocol, or something in its place: bytes or text."""
    kind = chance.randrange(10)
    if kind == 0:
        beyond = bytes(chance.choice((5_100_000, 10_100_000)))  # Streamlit's limit for us, and the websocket's own
        return chance.choice((b"", chance.randbytes(300), "text", beyond, b"\x0a\xff\xff\xff\xff\x0f"))
    message = BackMsg()
    if kind == 1:
        name = chance.choice(("clear_cache", "set_run_on_save", "stop_script", "load_git_info", "app_heartbeat"))
        setattr(message, chance.choice((name, "debug_disconnect_websocket", "debug_shutdown_runtime")), True)
        return message.SerializeToString()
    if kind == 2:
        operation = message.backend_operation_request
        operation.request_id = str(chance.random())
        operation.session_id = chance.choice(("", "../..", str(uuid.uuid4())))
        part = getattr(operation, chance.choice(("deferred_file", "install_skills", "dataframe_chunk")))
        part.SetInParent()
        return message.SerializeToString()
    canvas = visitor.canvas
    if canvas is None:
        raise NotNow
    rerun = message.rerun_script
    rerun.query_string = chance.choice(("", "?a=b", "x" * 10_000, "embed=true&" * 50))
    rerun.fragment_id = chance.choice(("", canvas[1], canvas[1], "no such fragment", "\0"))
    if chance.random() < 0.1:
        rerun.page_script_hash = chance.choice(("0" * 32, "../../etc/passwd"))
    if kind == 3:
        return message.SerializeToString()
    ids = [canvas[0].bidi_component.id]
    for element, _ in visitor.elements.values():
        part = getattr(element, element.WhichOneof("type") or "empty")
        ids += [part.id] if getattr(part, "id", "") else []
    for _ in range(chance.choice((1, 1, 2, 30))):
        state = WidgetState(id=chance.choice((ids[0], ids[0], chance.choice(ids), "$$ID-no-such-widget")))
        match chance.randrange(8):
            case 0 | 1 | 2:
                state.json_value = hostile_json(chance)
            case 3:
                state.trigger_value = True
            case 4:
                state.string_value = chance.choice(("", "x" * 100_000, "<script>alert(1)</script>", "(((((.*)*)*)*)*$"))
            case 5:
                state.int_value = chance.choice((-1, 2**62))
            case 6:
                state.json_trigger_value = hostile_json(chance)
            case 7:
                state.bytes_value = chance.randbytes(100)
        rerun.widget_states.widgets.append(state)
    return message.SerializeToString()


def attack(address, chance, messages, outcomes):
    """Send so many hostile messages. Returns the exceptions that pages showed; a page may only show refusals.

    Whatever was sent before, the app must let the next visitor in. One who has lost what messages are made of leaves.
    """
    shown, visitor = [], None
    for _ in range(messages):
        if visitor is None:
            with blame(outcomes, FAULT):
                visitor = Visitor(address)
        if visitor and not send(visitor, chance, outcomes):
            shown += visitor.errors
            with contextlib.suppress(OSError, WebSocketException):
                visitor.close()
            visitor = None
    return shown


def send(visitor, chance, outcomes):
    """Send one hostile message. Returns whether this visitor can go on."""
    with blame(outcomes, OWN_ERROR):
        message = hostile_message(chance, visitor)
        try:
            visitor.socket.send(message)
            count(outcomes, "sent")
            visitor.read(seconds=0.02)
        except (OSError, WebSocketException):
            return False  # cut off, as it may be
        return not visitor.errors
    return False


def question(address, chance, outcomes):
    """Post one hostile drawing to the route of programs: it gets an answer, or a refusal that is a sentence."""
    body = payload(chance)
    if not isinstance(body, bytes):
        body = repr(body).encode()
    headers = {"Content-Type": chance.choice(["image/png"] * 8 + ["image/gif", "", "image/png; a=b", "\t" * 99])}
    if chance.random() < 0.1:
        headers["Origin"] = chance.choice(["null", f"http://{address}", "http://[", "x" * 999, "https://a:b@c:d"])
    with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        connection.request("POST", "/answer", body, headers)
        answer = connection.getresponse()
        said = answer.read().decode()
    if answer.status == 200:
        assert len(json.loads(said)["probabilities"]) == 10, said
    else:
        assert answer.status in (400, 403, 413, 415, 422, 503) and said.endswith(".\n"), f"{answer.status}: {said}"
    count(outcomes, f"questions answered with {answer.status}")


def live_decently(visitor, chance, digit):
    """Draw, label and wait until that is saved, as anybody does. Raises AssertionError where it cannot be done."""
    for part in ("canvas", "true_label", "notice"):
        assert visitor.inside(part), f"a decent visitor's page has lost its {part}"
    visitor.draw(scribble(chance))
    assert visitor.text("answer_confidence"), "a decent visitor got no answer"
    assert visitor.label(digit), "a decent visitor could not label"
    deadline = time.monotonic() + 60
    while visitor.saved != str(digit) and time.monotonic() < deadline:
        visitor.look_again()
    assert visitor.saved == str(digit), visitor.text("notice")
    assert visitor.errors == []


# --- the long form ----------------------------------------------------------------------------------------------------


def memory(process=None):
    return (process or psutil.Process()).memory_info().rss


def run_payloads(chance, number):
    """Returns (outcomes, how much memory grew after the first tenth, in bytes)."""
    outcomes, before = {}, None
    for i in range(number):
        if i == number // 10:
            before = memory()
        try_out(outcomes, lambda: payload(chance), try_payload)
    return outcomes, memory() - before


def run_calls(chance, number):
    """The same for calls into db.py."""
    outcomes, before, ids = {}, None, [uuid.UUID(int=chance.getrandbits(128)) for _ in range(50)]
    for i in range(number):
        if i == number // 10:
            before = memory()
        try_out(outcomes, lambda: call(chance, ids), try_call)
    with blame(outcomes, FAULT):
        check_table()
    return outcomes, memory() - before


def run_messages(chance, number, folder):
    """Attack the real app, with a decent visitor beside.

    Returns (outcomes, how much the app's memory grew in the second half, in bytes, the exceptions that pages showed).
    """
    app = App(folder / "app.log")
    outcomes, shown, before, grown, decent = {}, [], 0, 0, None
    try:
        app.wait_until_up()
        process = psutil.Process(app.process.pid)
        for i in range(10):
            shown += attack(app.address, chance, number // 10, outcomes)
            for _ in range(number // 10):
                with blame(outcomes, FAULT):
                    question(app.address, chance, outcomes)
            with blame(outcomes, FAULT):
                assert app.process.poll() is None, "the app ended"
                decent = decent or Visitor(app.address)
                living, decent = decent, None  # another one comes in the place of one to whom something happens
                live_decently(living, chance, i)
                count(outcomes, "decent drawings labelled and saved")
                decent = living
            if app.process.poll() is not None:
                break
            grown = memory(process) - before
            if i == 4:  # sessions that hold what was sent are kept for a minute, so at first it grows
                before = memory(process)
        if decent:
            decent.close()
    finally:
        app.stop()
    return outcomes, grown, shown


def too_long(*_):
    raise TooLong(f"not done within {HOURS} hours: the traceback says what was waited for")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", default="1")
    options.add_argument("--payloads", type=int, default=10_000)
    options.add_argument("--calls", type=int, default=10_000)
    options.add_argument("--messages", type=int, default=2_000)
    chosen = options.parse_args()
    chance = random.Random(chosen.seed)
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(HOURS * 3600)
    logging.disable(logging.ERROR)  # a line for each damaged PNG, a traceback for each connection that the app cuts
    with tempfile.TemporaryDirectory(prefix="digits-", ignore_cleanup_errors=True) as folder:
        folder = Path(folder)
        folder.chmod(0o711)
        os.environ |= {"POSTGRES_HOST": "", "PGDATA_DIR": str(folder / "pgdata")}
        outcomes, grown, shown = [], {}, []
        if chosen.payloads:
            found, grown["payloads"] = run_payloads(chance, chosen.payloads)
            print(f"{chosen.payloads} canvas payloads: {found}")
            outcomes.append(found)
        if chosen.calls:
            found, grown["calls"] = run_calls(chance, chosen.calls)
            print(f"{chosen.calls} calls into db.py: {found}")
            outcomes.append(found)
        if chosen.messages:
            found, grown["messages"], shown = run_messages(chance, chosen.messages, folder)
            print(f"{chosen.messages} messages: {found}, exceptions shown: {len(shown)} {set(shown) or ''}")
            outcomes.append(found)
        print("memory grew by", {name: f"{size / 1e6:.1f} MB" for name, size in grown.items()})
        from store import postgres

        postgres.close()
    faults = any(FAULT in found for found in outcomes) or any("redacted" not in text for text in shown)
    if faults or max(grown.values(), default=0) > MEMORY:
        sys.exit(1)
    sys.exit(2 if any(OWN_ERROR in found for found in outcomes) else 0)


if __name__ == "__main__":
    main()
