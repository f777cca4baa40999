"""A visitor without a browser: Streamlit's messages over a real websocket, as many as one likes in one program."""

import base64
import contextlib
import json
import random
import re
import time

from helpers import digit_in, given, scribble
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect


class Visitor:
    """One session of the app at `address` (host:port). Raises OSError or websockets' errors when the app goes away."""

    def __init__(self, address, timeout=120, record=False):
        self.address, self.timeout = address, timeout
        self.blocks = {}  # path of a container on the page -> its key
        self.elements = {}  # path of an element -> (the element, the fragment it belongs to)
        self.messages = {}  # hash -> message, for those that the server sends once and then only names
        self.errors = []  # what the page showed as an exception
        self.heard = bytearray() if record else None  # every byte that came
        with contextlib.ExitStack() as closing:
            self.socket = closing.enter_context(
                connect(
                    f"ws://{address}/_stcore/stream",
                    subprotocols=["streamlit"],
                    max_size=None,
                    max_queue=None,  # else it reads no further, nor the answer to a close, while nobody takes messages
                    ping_interval=None,
                    open_timeout=timeout,
                )
            )
            self.rerun()
            self.close = closing.pop_all().close

    def rerun(self, states=(), fragment_id=""):
        """Send widget states, and read what the page answers until it is done."""
        self.send(states, fragment_id)
        self.read()

    def send(self, states=(), fragment_id=""):
        message = BackMsg()
        message.rerun_script.fragment_id = fragment_id
        message.rerun_script.widget_states.widgets.extend(states)
        self.socket.send(message.SerializeToString())

    def read(self, seconds=None):
        """Read until a script run is finished, or for so many seconds."""
        deadline = time.monotonic() + (self.timeout if seconds is None else seconds)
        while True:
            try:
                data = self.socket.recv(timeout=max(0, deadline - time.monotonic()))
            except TimeoutError:
                if seconds is not None:
                    return
                raise
            if self.heard is not None:
                self.heard += data
            message = ForwardMsg.FromString(data)
            if message.WhichOneof("type") == "ref_hash":
                metadata, message = message.metadata, self.messages[message.ref_hash]
                message.metadata.CopyFrom(metadata)
            elif message.metadata.cacheable:
                self.messages[message.hash] = message
            if message.WhichOneof("type") == "delta":
                self._show(tuple(message.metadata.delta_path), message.delta)
            finished = message.script_finished
            if message.WhichOneof("type") == "script_finished" and seconds is None:
                if finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    return

    def _show(self, path, delta):
        for shown in (self.blocks, self.elements):
            for old in [p for p in shown if p[: len(path)] == path]:
                del shown[old]
        if delta.HasField("add_block"):
            self.blocks[path] = delta.add_block.id.rpartition("-")[2]
        elif delta.HasField("new_element"):
            self.elements[path] = (delta.new_element, delta.fragment_id)
            if delta.new_element.HasField("exception"):
                self.errors.append(delta.new_element.exception.message)

    def inside(self, key):
        """The elements in the container with this key, in the order of the page: [(element, fragment_id)]."""
        inside = [path for path, name in self.blocks.items() if name == key]
        return [self.elements[p] for p in sorted(self.elements) if any(p[: len(path)] == path for path in inside)]

    def text(self, key):
        """The words in the container with this key; of the answer, whose words a browser makes, what says the same."""
        if key.startswith("answer_"):
            data = given(element for element, _ in self.inside("answer"))
            digit = digit_in(data)
            said = {"answer_digit": "" if digit is None else str(digit)}
            return said.get(key, data.get("refusal") or str((data.get("answer") or {}).get("confidence", "")))
        words = (re.sub("<[^>]*>", " ", element.html.body) for element, _ in self.inside(key))
        return " ".join(" ".join(words).replace("&nbsp;", " ").split())

    @property
    def canvas(self):
        """(element, fragment_id) of the canvas, or None while a run has not sent it yet."""
        return next((found for found in self.inside("canvas") if found[0].HasField("bidi_component")), None)

    @property
    def drawing_id(self):
        """Of the drawing on the canvas, or None without one."""
        return self.canvas and re.search(r"canvas-([0-9a-f-]{36})", self.canvas[0].bidi_component.id)[1]

    def draw(self, png):
        """Send this PNG as the drawing, as the canvas does at the end of a stroke."""
        self.rerun([self.canvas_state(png)], self.canvas[1])

    def canvas_state(self, png):
        data = "data:image/png;base64," + base64.b64encode(png).decode()
        value = {"drawing": {"raw": {"objects": []}, "data": data}, "backgroundFit": None}
        return WidgetState(id=self.canvas[0].bidi_component.id, json_value=json.dumps(value))

    def press(self, key, label=None):
        """Press the button with this label in the container with this key; False if it is disabled."""
        for element, fragment_id in self.inside(key):
            if element.HasField("button") and label in (None, element.button.label):
                if element.button.disabled:
                    return False
                self.rerun([WidgetState(id=element.button.id, trigger_value=True)], fragment_id)
                return True
        raise LookupError(f"no button {label!r} in the container {key!r}")

    def label(self, digit):
        return self.press("true_label", str(digit))

    def clear(self):
        return self.press("clear")

    def look_again(self):
        """What a browser does every other second while something waits to be saved."""
        self.rerun(fragment_id=self.inside("notice")[0][1])

    @property
    def saved(self):
        """What the page says of saving: None, "saved", or the label that it says is saved, as its text."""
        said = re.match(r"Saved( as (?:an? )?(\d))?\b(?!.*…)", self.text("notice"))
        return said and (said[2] or "saved")


if __name__ == "__main__":  # a look at the page from the outside: python tests/visitor.py 127.0.0.1:8501
    import sys

    visitor = Visitor(sys.argv[1])
    visitor.draw(scribble(random.Random(0)))
    print({key: visitor.text(key) for key in ("answer_digit", "answer_confidence", "notice")}, visitor.saved)
