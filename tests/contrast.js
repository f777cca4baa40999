// Every text on the page whose contrast with what is behind it is below WCAG 2.2 AA: [text, ratio, font size].
() => {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    .getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = "transparent";
    context.fillStyle = colour;  // "none" leaves it as it is
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const ancestors = (element) => (element ? [element, ...ancestors(element.parentElement)] : []);
  const behind = (element) => ancestors(element).reverse()
    .reduce((below, e) => over(rgba(getComputedStyle(e).backgroundColor), below), [255, 255, 255, 1]);
  // Behind a text in a chart lie shapes that are not above it in the tree. They are found only where they are in view.
  const behindText = (text) => {
    const { left, top, width, height } = text.getBoundingClientRect();
    return document.elementsFromPoint(left + width / 2, top + height / 2).filter((e) => e.matches("svg path")).reverse()
      .reduce((below, shape) => {
        const { fill, fillOpacity, opacity } = getComputedStyle(shape), [r, g, b, a] = rgba(fill);
        return over([r, g, b, a * fillOpacity * opacity], below);
      }, behind(text));
  };
  const linear = (c) => (c <= 0.04045 * 255 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const poor = [];
  const part = document.querySelector("[role=dialog]") ?? document.querySelector(".stMain");
  const texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim(), element = texts.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.closest(":disabled, canvas, .unseen, [aria-hidden=true]")) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const chart = element.matches("svg text");
    if (chart && element.getAttribute("opacity") === "0") continue;  // a label for which an axis has no room
    const colour = rgba(chart ? style.fill : style.color), below = chart ? behindText(element) : behind(element);
    for (const e of ancestors(element)) colour[3] *= getComputedStyle(e).opacity;
    const [dark, light] = [over(colour, below), below].map(luminance).sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push([text, ratio, size]);
  }
  return poor;
}
