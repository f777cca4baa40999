// Shows what is said of a drawing: the digit, how sure the network is, ten bars, and the picture that it saw. Where the
// HTML has only some of these parts, only those.
//
// data.answer: as `POST /answer` gives it, or null; data.refusal: why there is none, or "". With data.drawing, the id of
// the drawing on the canvas, it also shows what is answered while the pen is down (live.js: the event "answer"). Then
// data.stroke is the number of the stroke that data.answer ends with, as this script told the server ("stroke"); once
// that is shown, the event "kept" says so.

const NO_DIGIT_ABOVE = 0.5; // as in model.py
const DOUBT = 0.5; // confidence below which the runner-up is named
const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const BLACK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAAAAACwAAAAAAQABAAACAkQBADs="; // one pixel

// 0..1 as text that never rounds to a certainty that nobody has; for a bar, where there is little room, nothing for what
// is next to nothing.
const percent = (p) => (p > 0.999 ? "> 99.9 %" : p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);
const short = (p) => (p > 0.99 ? ">99%" : p >= 0.005 ? `${(100 * p).toFixed(0)}%` : "");

const isDigit = (answer) => answer.not_a_digit <= NO_DIGIT_ABOVE;
const isSure = (answer) => answer.confidence >= DOUBT;

// How sure the network is: what stands out, and the rest.
function confidence(answer) {
  if (answer.parts.length) {
    const list = `${answer.parts.slice(0, -1).join(", ")} and ${answer.parts.at(-1)}`;
    return ["One at a time", `This looks like ${list} side by side.`];
  }
  if (!isDigit(answer)) {
    return ["Not a digit?", "This does not look like a digit. If it is one, say which below."];
  }
  if (isSure(answer)) return [percent(answer.confidence), "sure"];
  const p = answer.probabilities;
  const [second] = DIGITS.filter((d) => d !== answer.digit).sort((a, b) => p[b] - p[a]);
  return [percent(answer.confidence), `Not sure. It could also be a ${second} (${percent(p[second])}).`];
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Ten bars, in words too for those who cannot see them. The probabilities are those if the drawing is a digit: where the
// page turns it away they are faint, and said so.
function showBars(bars, answer) {
  if (!bars.children.length) {
    bars.append(...DIGITS.map((d) => element("span", {}, element("b"), element("i"), element("em", { textContent: d }))));
  }
  const p = answer?.probabilities ?? DIGITS.map(() => 0);
  const away = Boolean(answer && !isDigit(answer));
  bars.classList.toggle("doubt", away);
  for (const [d, bar] of [...bars.children].entries()) {
    bar.className = answer && !away && d === answer.digit ? "bar best" : "bar";
    bar.children[0].textContent = short(p[d]);
    bar.children[1].style.setProperty("--p", p[d].toFixed(3));
  }
  const words = answer ? DIGITS.map((d) => `${d}: ${percent(p[d])}`).join(", ") : "nothing drawn yet";
  bars.ariaLabel = `Probability of each digit${away ? ", if it is one after all" : ""}. ${words}`;
}

function show(root, answer, refusal = "") {
  root.classList.toggle("none", !answer);
  showBars(root.querySelector(".bars"), answer);
  const digit = root.querySelector(".st-key-answer_digit");
  if (!digit) return;
  const plain = answer && isDigit(answer) && isSure(answer) && !answer.parts.length;
  digit.className = `st-key-answer_digit digit ${answer ? (plain ? "sure" : "doubt") : ""}`;
  digit.textContent = answer && isDigit(answer) ? answer.digit : "";
  const [first, rest] = answer ? confidence(answer) : ["", refusal || "Draw a digit to begin"];
  const words = root.querySelector(".st-key-answer_confidence");
  words.replaceChildren(...(first ? [element("b", { textContent: first }), " "] : []), rest);
  root.querySelector("img").src = answer ? `data:image/png;base64,${answer.picture}` : BLACK;
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".answer, .look");
  root.style.colorScheme = data.theme ?? "";
  parentElement.stop?.(); // Streamlit calls this again when it sends the component again
  const listeners = new AbortController();
  const on = (name, listener) => window.addEventListener(name, listener, { signal: listeners.signal });
  parentElement.stop = () => listeners.abort();
  if (!data.drawing) {
    on("moment", ({ detail }) => show(root, detail.answer)); // of a drawing that is drawn again (look.js)
    show(root, data.answer);
    return parentElement.stop;
  }

  // stroke: the last that began; kept: the last that Streamlit's answer on the page ends with; live: whether an answer
  // to a later one is shown.
  parentElement.shown ??= { stroke: 0 };
  const shown = parentElement.shown;
  const another = data.drawing !== shown.drawing;
  const late = !another && shown.live && data.stroke !== null && data.stroke < shown.stroke;
  if (!late) {
    Object.assign(shown, { drawing: data.drawing, kept: data.stroke ?? shown.stroke, live: false });
    show(root, data.answer, data.refusal);
    root.ariaBusy = false;
    window.dispatchEvent(new CustomEvent("kept", { detail: { stroke: shown.kept } }));
    // A screen reader hears only what stays: the answer at the end of a stroke.
    const said = root.querySelector(".st-key-answer_confidence").textContent;
    const read = data.answer && isDigit(data.answer) && !data.answer.parts.length ? `Read as ${data.answer.digit}: ` : "";
    root.querySelector("[role=status]").textContent = read + said;
  }

  on("pen", ({ detail }) => {
    shown.stroke = detail.stroke;
  });
  on("sent", () => setStateValue("stroke", shown.stroke)); // in one message with the drawing
  on("answer", ({ detail }) => {
    if (detail.drawing !== shown.drawing || detail.stroke <= shown.kept) return;
    shown.live = true;
    root.ariaBusy = true;
    show(root, detail.answer);
  });
  return parentElement.stop;
}
