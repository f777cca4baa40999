// Texts, pictures and controls of the drawing and the head of the page that lie over one another or beyond the window's edge.
() => {
  const inside = ".st-key-drawing, .stHtml:has(h1), [data-testid=stMainMenu]";
  const seen = (part) => part.closest(inside) && part.checkVisibility() && !part.closest(".unseen");
  const name = (part) => part.textContent.trim().slice(0, 30) || part.className || part.tagName;
  const boxes = [...document.querySelectorAll("img, button, canvas.upper-canvas")].filter(seen)
    .map((part) => ({ part, box: part.getBoundingClientRect() }));
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const part = texts.currentNode.parentElement, range = document.createRange();
    if (!texts.currentNode.data.trim() || !seen(part)) continue;
    range.selectNodeContents(texts.currentNode);
    const { left, right } = range.getBoundingClientRect(), { top, bottom } = part.getBoundingClientRect();
    boxes.push({ part, box: { left, right, top, bottom } });  // a line is less high than its font
  }
  const faults = boxes.filter(({ box }) => box.left < 0 || box.right > innerWidth).map(({ part }) => name(part));
  boxes.forEach((one, i) => boxes.slice(i + 1).forEach((other) => {
    const [a, b] = [one.box, other.box];
    const over = Math.min(Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
    if (over > 1 && !one.part.contains(other.part) && !other.part.contains(one.part)) faults.push([name(one.part), name(other.part), over]);
  }));
  return faults;
}
