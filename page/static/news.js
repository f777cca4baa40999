// Asks the server whether there is news of a section while that is on the screen, and has Streamlit show it only then.
//
// data: section, its container's key; seconds between two questions; url to ask at; seen: the news that the section shows,
// or null while it shows none or not all of it, in which case it is sent again without a question. Sets the trigger "news".

const MILLISECONDS = 1000;
// Seconds until a section that shows nothing or a part is sent again; each time twice as long, data.seconds at most.
const SOON = 0.1;
const CANVAS = ".st-key-canvas canvas";
const OFTEN = 0.1; // seconds between two looks whether it is time, the section on the screen and no pen down

export default function ({ data, parentElement, setTriggerValue }) {
  const self = parentElement;
  self.stop?.(); // Streamlit calls this again when it sends the component again
  const listeners = new AbortController();
  const { signal } = listeners;
  let inView = false;
  let penDown = false;

  const section = document.querySelector(`.st-key-${data.section}`);
  const observer = new IntersectionObserver(
    (entries) => {
      inView = entries.at(-1).isIntersecting;
    },
    { scrollMargin: "300px 0px" }, // what comes next when one scrolls is there already
  );
  if (section) observer.observe(section);

  // Nothing else is shown while a stroke is drawn: the pen would stutter. A press of another button opens a menu, and its
  // end may never be heard.
  const pen = (down) => (event) => {
    if (!down || !event.button) penDown = down;
  };
  document.addEventListener("pointerdown", pen(true), { capture: true, signal });
  document.addEventListener("pointerup", pen(false), { capture: true, signal });
  document.addEventListener("pointercancel", pen(false), { capture: true, signal });

  const isNews = async () => {
    if (data.seen === null) return true;
    try {
      const response = await fetch(data.url, { cache: "no-store", signal });
      const isPage = response.ok && !response.headers.get("Content-Type")?.startsWith("application/json");
      if (isPage || response.status === 404) return stop(); // the page is served without its routes
      return response.ok && (await response.json()).news !== data.seen; // a proxy may say that the server is busy
    } catch {
      return false; // out of reach, or stopped
    }
  };
  const look = async () => {
    if (performance.now() < self.next || !inView || document.hidden || penDown) return;
    if (!document.querySelector(CANVAS)) return; // the canvas comes first
    self.next = performance.now() + MILLISECONDS * data.seconds;
    if ((await isNews()) && !signal.aborted) setTriggerValue("news", Date.now());
  };
  self.soon = data.seen === null ? Math.min(2 * (self.soon ?? SOON / 2), data.seconds) : undefined;
  if (self.soon) self.next = performance.now() + MILLISECONDS * self.soon;
  self.next ??= 0;
  const timer = setInterval(look, MILLISECONDS * OFTEN);

  const stop = () => {
    listeners.abort();
    clearInterval(timer);
    observer.disconnect();
  };
  self.stop = stop;
  return stop;
}
