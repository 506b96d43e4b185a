// Reads the colours and the font of the page from the style sheet, for drawing on a canvas.

export type Palette = Record<string, string>;

const NAMES = ["run", "done", "fail", "wait", "rest", "ground", "text", "quiet", "line", "strong-line", "accent"];

export function palette(element: Element): Palette {
  const style = getComputedStyle(element);
  // A probe resolves light-dark() to the colour of the current theme.
  const probe = document.createElement("span");
  element.append(probe);
  const found: Palette = { font: style.fontFamily };
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}
