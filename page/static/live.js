// Asks for an answer while the pen is down, and makes it known as the event "answer" (shown by answer.js).
//
// data.url: of `POST /answer`. One question is under way at a time, each is about the newest picture. Where the route is
// not there, or refused, the page works without; where the way is slow, or many ask, it asks less.

const SIZE = 280; // pixels a side: the canvas as the component sends it at the end of a stroke
const BLACK = 0xff000000; // of a pixel, opaque
const LATE = 500; // milliseconds from a picture to its answer, after which nobody wants to see it
const LONG = 300; // milliseconds from the end of a stroke
const PAUSE = { first: 100, most: 800 }; // milliseconds after "too many are asking", twice as long each time
const BUSY = [503, 408, 429]; // the last two a proxy may say: the server took too long, or was asked too often
const FAILURES = 3; // in a row, after which it asks no more for REST milliseconds
const REST = 30_000;

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const copy = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
const context = copy.getContext("2d", { willReadFrequently: true });

// What is on the canvas: the finished strokes, and the one under way, which is on a layer above them. Nothing without ink.
// Made at once (toDataURL): toBlob waits until the browser is idle, which it seldom is while a pen moves.
function picture(canvas) {
  context.fillStyle = "black";
  context.fillRect(0, 0, SIZE, SIZE);
  for (const layer of canvas.querySelectorAll("canvas")) context.drawImage(layer, 0, 0, SIZE, SIZE);
  const { data } = context.getImageData(0, 0, SIZE, SIZE);
  const ink = new Uint32Array(data.buffer).some((pixel) => pixel !== BLACK);
  return ink && Uint8Array.from(atob(copy.toDataURL("image/png").split(",")[1]), (byte) => byte.charCodeAt(0));
}

const isAnswer = (answer) =>
  [answer?.digit, answer?.confidence, answer?.not_a_digit].every(Number.isFinite) &&
  answer.probabilities?.length === 10 &&
  answer.probabilities.every(Number.isFinite) &&
  Array.isArray(answer.parts) &&
  typeof answer.picture === "string";

export default function ({ data, parentElement }) {
  parentElement.stop?.(); // Streamlit calls this again when it sends the component again
  const listeners = new AbortController();
  const { signal } = listeners;
  let pen = null; // of the last event "pen": the canvas, the number of the stroke, and whether it is down
  let moved = null; // when the pen came to its newest position, if no question was about that
  let wait = null; // for the server's answer to the stroke that ended
  let asking = false;
  let failures = 0;
  let pause = 0;
  let restUntil = 0;

  async function ask() {
    const question = { ...pen, moved };
    moved = null;
    const body = picture(question.canvas);
    if (!body) return;
    const late = AbortSignal.timeout(LATE);
    const headers = { "Content-Type": "image/png" };
    const response = await fetch(data.url, { method: "POST", headers, body, signal: AbortSignal.any([signal, late]) });
    if (BUSY.includes(response.status)) {
      pause = Math.min(pause ? 2 * pause : PAUSE.first, PAUSE.most);
      moved ??= question.moved;
      return sleep(pause);
    }
    pause = 0;
    if (response.status < 500 && !response.ok) restUntil = Number.POSITIVE_INFINITY; // it never will
    const answer = response.ok ? await response.json() : null;
    if (!isAnswer(answer)) throw new Error(`no answer: ${response.status}`);
    failures = 0;
    const drawing = question.canvas.className.match(/st-key-canvas-([\w-]+)/)[1];
    window.dispatchEvent(new CustomEvent("answer", { detail: { ...question, drawing, answer } }));
  }

  async function askOn() {
    if (asking) return;
    asking = true;
    while (moved !== null && pen.settled && pen.canvas.isConnected && performance.now() > restUntil && !signal.aborted) {
      try {
        await ask();
      } catch {
        failures += 1;
        if (failures % FAILURES === 0) restUntil = Math.max(restUntil, performance.now() + REST);
      }
    }
    asking = false;
  }

  const move = (event) => {
    if (!pen?.down) return;
    moved = event.timeStamp;
    askOn();
  };
  const on = (name, listener) => window.addEventListener(name, listener, { signal }); // the canvas hears of it before
  on("mousemove", move);
  on("touchmove", move);
  // While the stroke goes from one layer to the other, within the next frame, nothing is asked. What is on the canvas then
  // is the server's to answer; only if that takes long is it asked about here, too.
  on("pen", ({ detail }) => {
    clearTimeout(wait);
    pen = { ...detail, settled: detail.down };
    if (detail.down) return;
    wait = setTimeout(() => {
      pen.settled = true;
      moved = performance.now();
      askOn();
    }, LONG);
  });
  on("kept", ({ detail }) => {
    if (detail.stroke === pen?.stroke) clearTimeout(wait);
  });

  parentElement.stop = () => {
    listeners.abort();
    clearTimeout(wait);
  };
  return parentElement.stop;
}
