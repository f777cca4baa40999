"""What the page shows of the database, kept current: a thread reads, and the browser asks for news.

Nobody waits for the database: the thread reads when somebody looks, for all visitors of the process. A component in the
browser asks for news of a section only while that section is on the screen and no pen is down, and the section is sent
again only if there is news.
"""

import logging
import threading
import time
from zoneinfo import ZoneInfo

import streamlit as st

import db

log = logging.getLogger(__name__)

AWAY = "The database cannot be read right now. This comes back by itself."
RETRY = 2.0  # seconds between two tries while the database is away
SILENT = 5.0  # seconds after which a database that has not answered is said to be away
TICK = """
export default function ({ data, parentElement, setTriggerValue }) {
  parentElement.stop?.();  // Streamlit calls this again when it sends the component again
  let inView = false, penDown = false, touched = -Infinity, timer;
  const section = document.querySelector(".st-key-" + data.section);
  const watcher = new IntersectionObserver((entries) => { inView = entries.at(-1).isIntersecting; });
  if (section) watcher.observe(section);

  const listeners = new AbortController();
  const on = (names, down) => names.forEach((name) => document.addEventListener(name, (event) => {
    if (down && event.button > 0) return;  // no pen, and its end may never be heard: a menu opens
    penDown = down ?? penDown;
    touched = performance.now();
  }, { capture: true, signal: listeners.signal }));
  on(["pointerdown"], true);
  on(["pointerup", "pointercancel"], false);
  on(["keydown", "keyup"]);

  // What changes at one moment, Streamlit sends as one batch, and reruns one fragment for it: a tick that met a stroke
  // would take its answer away. The canvas sends one when the pen is lifted, or by itself 200 ms later (canvas.py).
  const free = () => inView && !document.hidden && !penDown && performance.now() - touched > 1000 &&
    performance.now() - (window.lastTick ?? -Infinity) > 1000;
  const tick = () => {
    const now = free();
    if (now) {
      window.lastTick = performance.now();
      setTriggerValue("tick", Date.now());
      // Sooner at first, while the section may still be filling, but late enough that the other one has its turn.
      parentElement.seconds = Math.min(data.seconds, 1.3 * (parentElement.seconds ?? 1.1));
    }
    timer = setTimeout(tick, now ? 1000 * parentElement.seconds : 300);
  };
  timer = setTimeout(tick, 1000 * (parentElement.seconds ?? 0.4));
  parentElement.stop = () => { clearTimeout(timer); watcher.disconnect(); listeners.abort(); };
  return parentElement.stop;
}
"""


class Reader:
    """Reads from the database in a thread of its own, when somebody looks at it.

    A subclass reads in `refresh(check)` and publishes what visitors see.
    """

    def __init__(self, name, view=None):
        self.view = view
        self.version = 0
        self.problem = None  # None, or a sentence for visitors
        self._turn = threading.Condition()
        self._asked = self._answered = 0
        self._check = self._busy = False
        self._fresh = float("-inf")  # monotonic time at which the last refresh began
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def look(self, max_age=0.0, patience=0.5, check=False):
        """Return a view no older than `max_age` seconds, or the last there is once `patience` seconds are over.

        It never waits for a database that is known to be away. check: leave no doubt, whatever it costs.
        """
        with self._turn:
            age = time.monotonic() - self._fresh
            if self._busy and age > SILENT:
                self.problem = AWAY
            if check or age > max_age:
                self._asked += 1
                self._check |= check
                asked = self._asked
                self._turn.notify_all()
                self._turn.wait_for(lambda: self.problem or self._answered >= asked, patience)
            return self.view

    def publish(self, view):
        self.view = view
        self.version += 1

    def refresh(self, check):
        """Read what is new. Raises db.DatabaseError."""
        raise NotImplementedError

    def unfinished(self):
        """Whether to refresh again at once."""
        return False

    def _work(self):
        troubles = set()  # that were logged since the database was last read
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._asked > self._answered or not self.problem and self.unfinished())
                asked, check = self._asked, self._check
                self._check, self._busy, self._fresh = False, True, time.monotonic()
            try:
                self.refresh(check)
                problem = None
                if troubles:
                    log.warning("%s: read again", threading.current_thread().name)
                    troubles.clear()
            except Exception as error:
                problem = AWAY
                log_new(error, troubles)
            with self._turn:
                self._answered, self.problem, self._busy = asked, problem, False
                self._check |= check and problem is not None
                self._turn.notify_all()
            if problem:
                time.sleep(RETRY)


def log_new(trouble, troubles):
    """Log a failure unless one of its kind is among `troubles`: while the database is away, every look fails."""
    name, kind = threading.current_thread().name, f"{type(trouble).__name__}: {trouble}"
    if kind in troubles:
        return
    troubles.add(kind)
    if isinstance(trouble, db.DatabaseError):
        log.warning("%s: %s; it is tried again", name, trouble)
    else:
        log.error("%s: not read; it is tried again", name, exc_info=trouble)


def time_zone() -> str:
    """The visitor's time zone, or UTC where the browser names none that is known here."""
    name = st.context.timezone or "UTC"
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # what ZoneInfo raises for names that nobody knows, and for hostile ones
        return "UTC"
    return name


@st.cache_resource(show_spinner=False)
def get_ticker():
    return st.components.v2.component("tick", js=TICK)


def answer_also(fragment: str, **state) -> None:
    """For the callbacks of widgets in `fragment`: have it rerun, with this session state, where another one would be.

    The browser puts all changes of a moment into one message, which reruns the fragment of the first change alone. That
    may have been a question for news, or for a part of the download.
    """
    asked = [st.session_state.get(key) for key in ("history_tick", "insights_tick", "history_csv")]
    if any(value and (value.get("tick") or value.get("next")) for value in asked):
        st.session_state.update(state)
        st.rerun(fragment)


@st.fragment
def watch(section: str, reader: Reader, seconds: float) -> None:
    """Rerun the fragment `section`, in the container of that key, when `reader` has news for this visitor."""

    def tick() -> None:
        reader.look(max_age=min(1, seconds / 2), patience=0.2)
        if st.session_state.get(f"{section}_seen") != (reader.version, reader.problem):
            st.rerun(section)

    get_ticker()(data={"section": section, "seconds": seconds}, key=f"{section}_tick", on_tick_change=tick, height=1)


def begin(section: str, reader: Reader, max_age: float):
    """Show the head of a section, and that the database is away if it is. Returns the view to show."""
    reader.look(max_age)
    # Noted before the view is taken: at worst the same is sent once more.
    st.session_state[f"{section}_seen"] = (reader.version, reader.problem)
    st.header(section.capitalize(), anchor=False)
    # Something in either case: what lies below would begin anew in another place.
    st.info(reader.problem, icon=":material/cloud_off:") if reader.problem else st.empty()
    return reader.view
