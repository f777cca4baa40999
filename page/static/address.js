// Asks for the closer look that the page's address names, once one can draw, and not while one does.
//
// data.asked: the id of the drawing, or "" where nothing is to be opened. Sets the trigger "open". Hears of the event "pen".

const CANVAS = ".st-key-canvas canvas";
const OFTEN = 100; // milliseconds between two looks for the canvas

export default function ({ data, parentElement, setTriggerValue }) {
  const self = parentElement;
  self.stop?.(); // Streamlit calls this again when it sends the component again
  const pen = ({ detail }) => {
    self.penDown = detail.down;
  };
  window.addEventListener("pen", pen);
  const timer = data.asked && setInterval(() => {
    if (self.penDown || !document.querySelector(CANVAS)) return;
    clearInterval(timer);
    setTriggerValue("open", data.asked);
  }, OFTEN);
  self.stop = () => {
    clearInterval(timer);
    window.removeEventListener("pen", pen);
  };
  return self.stop;
}
