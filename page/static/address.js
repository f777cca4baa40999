// Asks for the closer look that the page's address names, once one can draw.
//
// data.asked: the id of the drawing, or "" where nothing is to be opened. Sets the trigger "open".

const CANVAS = ".st-key-canvas canvas";
const OFTEN = 100; // milliseconds between two looks for the canvas

export default function ({ data, parentElement, setTriggerValue }) {
  parentElement.stop?.(); // Streamlit calls this again when it sends the component again
  if (!data.asked) return;
  const timer = setInterval(() => {
    if (!document.querySelector(CANVAS)) return;
    clearInterval(timer);
    setTriggerValue("open", data.asked);
  }, OFTEN);
  parentElement.stop = () => clearInterval(timer);
  return parentElement.stop;
}
