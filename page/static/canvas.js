// What the canvas component leaves out: strokes that are sent and ended in time, an undo that can be seen, a canvas that
// closes when its drawing ends, and keys that reach what they are meant for.
//
// data.session: the session on the server. Sets the trigger "restarted" when a new one took a drawing away. Makes the
// pen known to other scripts: the event "pen" when it goes down and up, with the canvas and the number of the stroke, and
// "sent" when the drawing is about to be sent.

const CANVAS = "[class*=st-key-canvas-]";
const UNDO = ".st-key-undo button";
const CORRECT = "[class*=st-key-correct-]";
const ENDING = `.st-key-true_label button, ${CORRECT} button, .st-key-clear button`;
const STATUS = ".st-key-notice";

export default function ({ data, parentElement, setTriggerValue }) {
  const self = parentElement; // stays when Streamlit sends the component again, for which it calls this again
  self.stop?.();
  const listeners = new AbortController();
  const on = (names, listener) => {
    for (const name of names) window.addEventListener(name, listener, { capture: true, signal: listeners.signal });
  };
  self.drawing ??= null; // the canvas on which a stroke is under way
  let patience = null; // of a key that waits for its button
  const tell = (name, detail) => window.dispatchEvent(new CustomEvent(name, { detail }));
  const toolbar = (canvas, name) => canvas?.querySelector(`[aria-label^="${name}"]`)?.click();
  window.strokes ??= 0; // that began on this page

  // The component lets go of the pen when another button of the mouse is released: what was drawn then would stay on
  // the canvas unread, and the next stroke wipe it out. It hears of no other button while a stroke is under way.
  on(["mousedown", "mouseup"], (event) => {
    if (self.drawing && event.button) event.stopImmediatePropagation();
  });

  // It ends a stroke only when no finger is left on the whole screen, and knows nothing of a touch that the system takes
  // away. It is told of the end of each stroke.
  on(["touchend", "touchcancel"], (event) => {
    const lifted = event.type === "touchend" && (!event.touches.length || event.targetTouches.length);
    if (lifted || !event.target.closest?.(CANVAS)) return;
    event.stopImmediatePropagation();
    const changedTouches = [...event.changedTouches];
    event.target.dispatchEvent(new TouchEvent("touchend", { bubbles: true, cancelable: true, changedTouches }));
  });

  // The notice is made anew for every stroke, and a screen reader tells what changes inside of a region that was there
  // before: its container stays, so this is made such a region before the first stroke ends.
  on(["mousedown", "touchstart"], (event) => {
    const canvas = event.target.closest?.(CANVAS);
    if (event.button || !canvas) return;
    if (!self.drawing) window.strokes += 1;
    clearTimeout(patience);
    self.drawing = canvas;
    tell("pen", { canvas, stroke: window.strokes, down: true });
    for (const region of document.querySelectorAll(STATUS)) region.role = "status";
  });

  // The component waits 200 ms after a stroke before it sends it, and a label pressed within them would miss the stroke.
  // The first button of its toolbar sends at once. Should that ever come too early, or the button be gone, the component
  // still sends by itself.
  on(["mouseup", "touchend"], (event) => {
    if (!self.drawing || event.touches?.length) return;
    tell("pen", { canvas: self.drawing, stroke: window.strokes, down: false });
    setTimeout((canvas) => {
      tell("sent");
      toolbar(canvas, "Update the app");
    }, 0, self.drawing); // once the component has taken it in
    window.drawn = { session: data.session, canvas: self.drawing };
    self.drawing = null;
  });

  // Once a button or a key has ended the drawing, nothing more can be drawn on it; if the next canvas is late, it fades.
  const end = () => {
    clearTimeout(patience);
    clearTimeout(self.reopening);
    const canvases = document.querySelectorAll(CANVAS);
    for (const canvas of canvases) canvas.classList.add("ended");
    self.reopening = setTimeout(() => { // the press was in vain
      for (const canvas of canvases) canvas.classList.remove("ended");
    }, 5000);
  };
  on(["click"], (event) => {
    const button = event.target.closest?.(ENDING);
    if (!button) return;
    const correct = button.closest(CORRECT);
    if (!correct || correct.matches(`.st-key-correct-${seen()}`)) return end();
    event.stopImmediatePropagation(); // it stands for the answer before the one that is seen
    accept(seen(), 40);
  });

  // Who saw an answer form may accept it before the button is there that does; until the next stroke, this waits for it.
  const seen = () => document.querySelector(".st-key-answer_digit")?.textContent;
  const accept = (digit, tries) => {
    clearTimeout(patience);
    const button = document.querySelector(`.st-key-correct-${digit} button:enabled`);
    if (button) button.click();
    else if (tries) patience = setTimeout(accept, 50, digit, tries - 1);
  };

  // The toolbar takes the last stroke away, and sends what is left as it sends a stroke: Streamlit need not hear of it.
  const undo = () => {
    if (!self.drawing) toolbar(document.querySelector(`${CANVAS}:not(.ended)`), "Undo");
  };
  on(["click"], (event) => {
    if (!event.target.closest?.(UNDO)) return;
    event.stopImmediatePropagation();
    undo();
  });

  // Streamlit's shortcuts hear every key on the page. Those of a dialog, which asks about another drawing, and those of
  // the history must not label what is on the canvas, nor a key that is held down what is drawn meanwhile.
  on(["keydown"], (event) => {
    const typing = event.target.closest?.("input, textarea");
    const elsewhere = document.querySelector("[role=dialog]") || event.target.closest?.(".st-key-history");
    if (/^z$/i.test(event.key) && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) {
      if (typing || elsewhere) return;
      event.preventDefault();
      return undo();
    }
    // They go by the place of a key that types a sign they do not know: most digit keys of a French keyboard do.
    const byPlace = event.keyCode >= 48 && event.keyCode <= 57 && !/[,./`=;'{}[\]\\-]/.test(event.key);
    if (typing || !(byPlace || /^([0-9y]|Backspace)$/i.test(event.key))) return;
    if (elsewhere || event.repeat) return event.stopImmediatePropagation();
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (/y/i.test(event.key)) return accept(seen(), 40);
    if (document.querySelector(".st-key-clear button:enabled")) end();
  });

  // A dialog that opens while a pen is down is not given the focus, without which it does not hear Escape.
  on(["keydown"], (event) => {
    const dialog = document.querySelector("[role=dialog]");
    if (event.key === "Escape" && !dialog?.contains(event.target)) dialog?.querySelector("[aria-label=Close]")?.click();
  });

  // Another session than that of the last stroke: the server was restarted, or forgot the old one. It knows nothing of
  // what was drawn, and of no press, unless the drawing had ended before.
  if (window.drawn && window.drawn.session !== data.session) {
    if (!window.drawn.ended) setTriggerValue("restarted", true);
    window.drawn = null;
  }
  // It has ended when its canvas is gone and, a second later, the session is still the same.
  const watch = setInterval(() => {
    if (!window.drawn) return;
    window.drawn.ended = window.drawn.gone;
    window.drawn.gone = !window.drawn.canvas.isConnected;
  }, 1000);

  self.stop = () => {
    listeners.abort();
    clearTimeout(patience);
    clearInterval(watch);
  };
  return self.stop;
}
