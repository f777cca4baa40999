// A drawing that is drawn again, with what the network said at each moment, and what each part of it is worth.
//
// data.lines: the strokes, lists of [x, y] on the canvas; data.moments: {answer, words}, after equal lengths of the pen's
// way; data.parts: {points, tone, words}, where tone is "for", "against" or "none", with data.scale on how to read them.
// Each moment is made known as the event "moment", by which answer.js moves the bars.

const SECONDS = 4; // that a whole drawing is drawn again
const SVG = "http://www.w3.org/2000/svg";

const stepwise = matchMedia("(prefers-reduced-motion: reduce)");

function polyline(points, className) {
  const line = document.createElementNS(SVG, "polyline");
  // A dot, too, has two ends, or no cap is drawn.
  const ends = points.length > 1 ? points : [points[0], points[0]];
  line.setAttribute("points", ends.map((point) => point.join()).join(" "));
  line.setAttribute("class", className);
  return line;
}

// A line with the length of each of its steps, and its own; a dot's is 1.
function measured(line) {
  const steps = line.slice(1).map((point, i) => Math.hypot(point[0] - line[i][0], point[1] - line[i][1]));
  return { line, steps, length: Math.max(1, steps.reduce((sum, step) => sum + step, 0)) };
}

// The measured lines as far as the pen was after this share of its way.
function upTo(lines, share) {
  let left = share * lines.reduce((sum, { length }) => sum + length, 0) + 1e-6;
  const drawn = [];
  for (const { line, steps } of lines) {
    if (left <= 0) break;
    const part = [line[0]];
    for (const [i, step] of steps.entries()) {
      const reached = Math.min(1, left / step);
      part.push(line[i].map((x, axis) => x + reached * (line[i + 1][axis] - x)));
      left -= step;
      if (left <= 0) break;
    }
    drawn.push(part);
    if (line.length < 2) left -= 1;
  }
  return drawn;
}

export default function ({ data, parentElement }) {
  parentElement.stop?.(); // Streamlit calls this again when it sends the component again
  const listeners = new AbortController();
  const on = (element, name, listener) => element.addEventListener(name, listener, { signal: listeners.signal });
  const find = (selector) => parentElement.querySelector(selector);
  const [root, svg, play, range, said] = [".why", "svg", ".replay button", "input", ".said"].map(find);
  const [told, details, list] = [find("[aria-live]"), find("details"), find("ol")];
  const lines = data.lines.map(measured);
  const all = data.moments.length;
  let frame = 0; // of a drawing that is being drawn again
  root.style.colorScheme = data.theme;
  range.max = all;

  function show(share) {
    const n = Math.max(1, Math.min(all, Math.ceil(share * all - 1e-6)));
    const moment = data.moments[n - 1];
    svg.replaceChildren(...upTo(lines, share).map((line) => polyline(line, "ink")));
    range.value = n;
    range.ariaValueText = `${Math.round((100 * n) / all)} % drawn: ${moment.words}`;
    said.textContent = n < all ? `When ${Math.round((100 * n) / all)} % was drawn: ${moment.words}` : data.end;
    window.dispatchEvent(new CustomEvent("moment", { detail: { answer: moment.answer } }));
  }

  function stop() {
    cancelAnimationFrame(frame);
    frame = 0;
    play.textContent = "▶";
    play.ariaLabel = "Play";
  }
  function start() {
    let began = null;
    play.textContent = "■";
    play.ariaLabel = "Stop";
    choose(null);
    const from = Number(range.value) < all ? Number(range.value) / all : 0;
    const step = (now) => {
      began ??= now;
      const share = Math.min(1, from + (now - began) / 1000 / SECONDS);
      show(stepwise.matches ? Math.max(1, Math.floor(share * all)) / all : share);
      if (share < 1) frame = requestAnimationFrame(step);
      else stop();
    };
    frame = requestAnimationFrame(step);
  }
  on(play, "click", () => (frame ? stop() : start()));
  on(range, "input", () => {
    stop();
    choose(null);
    show(Number(range.value) / all);
  });

  // The parts in their colours while they are shown; the one that is taken off is an outline.
  function showParts(off) {
    svg.replaceChildren(...data.parts.map(({ points, tone }, i) => polyline(points, i === off ? "off" : `part ${tone}`)));
    for (const [i, { points }] of data.parts.entries()) {
      const text = document.createElementNS(SVG, "text");
      const [x, y] = points[points.length >> 1];
      text.setAttribute("x", x);
      text.setAttribute("y", y);
      text.textContent = i + 1;
      svg.append(text);
    }
  }
  function choose(off) {
    for (const [i, button] of [...list.querySelectorAll("button")].entries()) button.ariaPressed = String(i === off);
    if (!details.open) return;
    const part = data.parts[off];
    showParts(off);
    said.textContent = part ? `Without part ${off + 1}: ${part.rest}` : data.end;
    const { answer } = part ?? data.moments.at(-1);
    window.dispatchEvent(new CustomEvent("moment", { detail: { answer } }));
  }
  on(svg, "click", ({ target }) => {
    if (target.matches(".part, .off")) list.querySelectorAll("button")[[...svg.children].indexOf(target)].click();
  });
  on(details, "toggle", () => {
    stop();
    if (details.open) choose(null);
    else show(1);
  });
  details.hidden = !data.parts.length;
  find("details p").textContent = data.scale;
  list.replaceChildren(
    ...data.parts.map(({ tone, words }, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = tone;
      button.textContent = words;
      on(button, "click", () => {
        choose(button.ariaPressed === "true" ? null : i);
        told.textContent = said.textContent; // to a screen reader, which is not told of each moment of a replay
      });
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  if (details.open) choose(null);
  else show(1);

  parentElement.stop = () => {
    stop();
    listeners.abort();
  };
  return parentElement.stop;
}
