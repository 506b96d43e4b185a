// Draws the graph of the tasks on a canvas, with pan, zoom, three levels of detail, and arrow keys.
import { useEffect, useRef } from "preact/hooks";
import { useKeys } from "../lib/keys.ts";
import { type Palette, palette } from "../lib/palette.ts";
import { theme } from "../lib/settings.ts";
import type { Graph } from "../lib/types.ts";
import { family } from "./state.tsx";

export const STATE_OF: Record<string, string> = {
  p: "Pending", r: "Ready", w: "Waiting", R: "Running", C: "Completed", F: "Failed", S: "Skipped", X: "Cancelled",
};

// Lengths in pixels, at a scale of 1: the distances between columns and between rows, and the size of the box of a task.
const COLUMN = 168;
const ROW = 64;
const WIDTH = 148;
const HEIGHT = 32;
const MARKS: Record<string, string> = { C: "✓", F: "✕", R: "◐", p: "○", r: "○", w: "◷", S: "⇥", X: "⊘" };

/** Distance of the buttons from the edges of the canvas, in pixels, as the style sheet sets it. */
const TOOLS_MARGIN = 8;

/** While a graph with at least this number of tasks is dragged, a picture of it is moved instead of drawing each frame. */
const MIN_PICTURED = 500;

interface Size {
  width: number;
  height: number;
}

interface View {
  scale: number;
  x: number;
  y: number;
}

/** A picture of the graph that is larger than the canvas by `margin` pixels on each side. */
interface Picture {
  image: OffscreenCanvas;
  view: View;
  margin: { x: number; y: number };
  /** What the picture shows. A picture of other contents is drawn again. */
  of: readonly unknown[];
}

const centre = (graph: Graph, index: number): [number, number] => [
  ((graph.x[index] ?? 0) / 100) * COLUMN,
  (graph.y[index] ?? 0) * ROW,
];

/**
 * Returns the view that shows the whole graph. The graph leaves room for the buttons at the top right (`tools`): it is beside
 * or below them, whichever lets it be larger.
 */
function fit(graph: Graph, { width, height }: Size, tools: Size): View {
  const w = (graph.width / 100) * COLUMN + WIDTH + 32;
  const h = Math.max(0, graph.height - 1) * ROW + HEIGHT + 32;
  const beside = Math.min(1.1, (width - tools.width) / w, height / h);
  const below = Math.min(1.1, width / w, (height - tools.height) / h);
  const isBelow = below > beside;
  const scale = isBelow ? below : beside;
  const free = isBelow ? width : width - tools.width;
  const top = isBelow ? tools.height : 0;
  return {
    scale,
    x: (free - (w - WIDTH - 32) * scale) / 2,
    y: top + (height - top - (h - HEIGHT - 32) * scale) / 2,
  };
}

function cut(context: CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D, text: string, width: number): string {
  if (context.measureText(text).width <= width) return text;
  let length = text.length;
  while (length > 3 && context.measureText(`${text.slice(0, length)}…`).width > width) length = Math.floor(length * 0.9);
  return `${text.slice(0, length)}…`;
}

export function drawGraph(context: CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D, size: Size, graph: Graph, states: string,
  view: View, colours: Palette, selected: number, again: ReadonlySet<number> | null): void {
  const { scale } = view;
  context.fillStyle = colours.ground ?? "";
  context.fillRect(0, 0, size.width, size.height);
  context.save();
  context.translate(view.x, view.y);
  context.scale(scale, scale);
  const left = -view.x / scale - WIDTH;
  const top = -view.y / scale - ROW;
  const right = left + size.width / scale + 2 * WIDTH;
  const bottom = top + size.height / scale + 2 * ROW;
  const isFar = scale < 0.28;

  // Edges are drawn as two paths: a dashed one for edges of skipped tasks, and a solid one for the others.
  const solid = new Path2D();
  const dashed = new Path2D();
  for (let edge = 0; edge < graph.edges.length / 2; edge++) {
    const from = graph.edges[2 * edge] ?? 0;
    const to = graph.edges[2 * edge + 1] ?? 0;
    const [fx, fy] = centre(graph, from);
    const [tx, ty] = centre(graph, to);
    if (fy > bottom || ty < top || Math.max(fx, tx) < left || Math.min(fx, tx) > right) continue;
    const path = states[from] === "S" || states[to] === "S" ? dashed : solid;
    if (isFar) {
      path.moveTo(fx, fy);
      path.lineTo(tx, ty);
      continue;
    }
    let x = fx;
    let y = fy + HEIGHT / 2;
    path.moveTo(x, y);
    const bends = graph.bends[edge] ?? [];
    for (let bend = 0; bend <= bends.length; bend += 2) {
      const isLast = bend === bends.length;
      const nx = isLast ? tx : ((bends[bend] ?? 0) / 100) * COLUMN;
      const ny = isLast ? ty - HEIGHT / 2 : (bends[bend + 1] ?? 0) * ROW;
      const middle = (y + ny) / 2;
      path.bezierCurveTo(x, middle, nx, middle, nx, ny);
      x = nx;
      y = ny;
    }
    if (scale > 0.5) {
      path.moveTo(tx - 3.5, ty - HEIGHT / 2 - 5);
      path.lineTo(tx, ty - HEIGHT / 2 - 0.5);
      path.lineTo(tx + 3.5, ty - HEIGHT / 2 - 5);
    }
  }
  context.strokeStyle = colours[isFar ? "line" : "strong-line"] ?? "";
  context.lineWidth = isFar ? 1 / scale / 2 : 1.2;
  context.stroke(solid);
  context.setLineDash([4, 4]);
  context.stroke(dashed);
  context.setLineDash([]);

  // Failed tasks are drawn last, and larger when the graph is zoomed out.
  context.textBaseline = "middle";
  context.font = `13px ${colours.font ?? "system-ui"}`;
  for (const isFailedTurn of [false, true]) {
    for (let index = 0; index < graph.tasks.length; index++) {
      const letter = states[index] ?? "p";
      if ((letter === "F") !== isFailedTurn) continue;
      const [x, y] = centre(graph, index);
      if (x < left || x > right || y < top || y > bottom) continue;
      const colour = colours[family(STATE_OF[letter] ?? "")] ?? "";
      const isFilled = letter === "C" || letter === "F" || letter === "R";
      if (isFar) {
        const grow = letter === "F" ? 1.3 : 1;
        context.fillStyle = colour;
        context.globalAlpha = isFilled ? 1 : 0.4;
        context.fillRect(x - (WIDTH / 2) * grow * 0.9, y - (HEIGHT / 2) * grow, WIDTH * grow * 0.9, HEIGHT * grow);
        context.globalAlpha = 1;
      } else {
        context.beginPath();
        context.roundRect(x - WIDTH / 2, y - HEIGHT / 2, WIDTH, HEIGHT, 4);
        context.fillStyle = colours.ground ?? "";
        context.fill();
        context.globalAlpha = isFilled ? 0.14 : 0;
        context.fillStyle = colour;
        context.fill();
        context.globalAlpha = 1;
        context.strokeStyle = colour;
        context.lineWidth = letter === "F" || letter === "R" ? 2 : 1.2;
        context.setLineDash(letter === "S" ? [5, 3] : letter === "p" ? [2, 3] : []);
        context.stroke();
        context.setLineDash([]);
        if (scale >= 0.5) {
          context.fillStyle = colour;
          context.fillText(MARKS[letter] ?? "", x - WIDTH / 2 + 8, y + 1);
          context.fillStyle = letter === "p" || letter === "S" ? (colours.quiet ?? "") : (colours.text ?? "");
          context.fillText(cut(context, graph.tasks[index] ?? "", WIDTH - 36), x - WIDTH / 2 + 26, y + 1);
        }
      }
      if (index === selected || again?.has(index)) {
        context.strokeStyle = colours.accent ?? "";
        context.lineWidth = Math.max(2.5, 2 / scale);
        context.setLineDash(index === selected ? [] : [6, 4]);
        context.strokeRect(x - WIDTH / 2 - 4, y - HEIGHT / 2 - 4, WIDTH + 8, HEIGHT + 8);
        context.setLineDash([]);
      }
    }
  }
  context.restore();
}

/** Returns a task and all tasks that depend on it. */
export function descendants(graph: Graph, index: number): Set<number> {
  const below = new Map<number, number[]>();
  for (let edge = 0; edge < graph.edges.length; edge += 2) {
    const from = graph.edges[edge] ?? 0;
    below.set(from, [...(below.get(from) ?? []), graph.edges[edge + 1] ?? 0]);
  }
  const found = new Set([index]);
  const queue = [index];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    for (const other of below.get(next) ?? []) {
      if (!found.has(other)) {
        found.add(other);
        queue.push(other);
      }
    }
  }
  return found;
}

/** Returns the nearest task in a direction; `from` if there is none. */
function step(graph: Graph, from: number, dx: number, dy: number): number {
  const [x, y] = centre(graph, from);
  let best = from;
  let least = Infinity;
  for (let index = 0; index < graph.tasks.length; index++) {
    const [ox, oy] = centre(graph, index);
    const along = (ox - x) * dx + (oy - y) * dy;
    if (index === from || along <= 1) continue;
    const across = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
    const cost = along + across * 2;
    if (cost < least) {
      least = cost;
      best = index;
    }
  }
  return best;
}

export function GraphCanvas({ graph, states, selected, again, choose, isFollowing }: {
  graph: Graph;
  states: string;
  selected: number;
  again: ReadonlySet<number> | null;
  choose: (index: number) => void;
  isFollowing: boolean;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const view = useRef<View | null>(null);
  const frame = useRef(0);
  const picture = useRef<Picture | null>(null);
  /** The colours of the current theme. Reading them takes longer than drawing a frame. */
  const paint = useRef<Palette | null>(null);
  const tools = useRef<HTMLDivElement>(null);
  const drag = useRef<{ x: number; y: number; moved: number } | null>(null);
  const latest = useRef({ graph, states, selected, again });
  latest.current = { graph, states, selected, again };

  /** Returns a picture that covers the canvas: the last one, if it still does. */
  const pictured = (view: View, size: Size, ratio: number, colours: Palette): Picture | null => {
    const { graph, states, selected, again } = latest.current;
    const of = [graph, states, selected, again, colours, ratio, size.width, size.height, view.scale];
    const { current } = picture;
    if (current && of.every((one, index) => one === current.of[index])) {
      const { margin, view: { x, y } } = current;
      if (Math.abs(view.x - x) <= margin.x && Math.abs(view.y - y) <= margin.y) return current;
    }
    const margin = { x: Math.round(size.width / 2), y: Math.round(size.height / 2) };
    const whole = { width: size.width + 2 * margin.x, height: size.height + 2 * margin.y };
    const image = new OffscreenCanvas(Math.round(whole.width * ratio), Math.round(whole.height * ratio));
    const context = image.getContext("2d", { alpha: false });
    if (!context) return null;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawGraph(context, whole, graph, states, { ...view, x: view.x + margin.x, y: view.y + margin.y }, colours, selected, again);
    picture.current = { image, view, margin, of };
    return picture.current;
  };
  const draw = () => {
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => {
      const element = canvas.current;
      const context = element?.getContext("2d", { alpha: false });
      if (!element || !context) return;
      const { clientWidth: width, clientHeight: height } = element;
      const ratio = devicePixelRatio || 1;
      if (element.width !== Math.round(width * ratio) || element.height !== Math.round(height * ratio)) {
        element.width = Math.round(width * ratio);
        element.height = Math.round(height * ratio);
      }
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      const { graph, states, selected, again } = latest.current;
      const { offsetWidth = 0, offsetHeight = 0 } = tools.current ?? {};
      view.current ??= fit(graph, { width, height }, { width: offsetWidth + 2 * TOOLS_MARGIN, height: offsetHeight + 2 * TOOLS_MARGIN });
      const began = performance.now();
      const colours = (paint.current ??= palette(element.parentElement ?? element));
      const moved = drag.current && graph.tasks.length >= MIN_PICTURED ? pictured(view.current, { width, height }, ratio, colours) : null;
      if (moved) {
        const { image, view: { x, y }, margin } = moved;
        context.drawImage(image, view.current.x - x - margin.x, view.current.y - y - margin.y, width + 2 * margin.x, height + 2 * margin.y);
      } else {
        picture.current = null;
        drawGraph(context, { width, height }, graph, states, view.current, colours, selected, again);
      }
      // The tests read the time that drawing takes.
      element.dataset.drawMs = (performance.now() - began).toFixed(1);
    });
  };
  const refit = () => {
    view.current = null;
    draw();
  };
  const zoom = (factor: number, x?: number, y?: number) => {
    const element = canvas.current;
    const { current } = view;
    if (!element || !current) return;
    const cx = x ?? element.clientWidth / 2;
    const cy = y ?? element.clientHeight / 2;
    const scale = Math.min(3, Math.max(0.005, current.scale * factor));
    const ratio = scale / current.scale;
    view.current = { scale, x: cx - (cx - current.x) * ratio, y: cy - (cy - current.y) * ratio };
    draw();
  };
  const show = (index: number) => {
    const element = canvas.current;
    const { current } = view;
    if (!element || !current || index < 0) return;
    const [x, y] = centre(latest.current.graph, index);
    const scale = Math.max(current.scale, Math.min(0.8, Math.max(current.scale, 0.5)));
    const px = current.x + x * current.scale;
    const py = current.y + y * current.scale;
    const margin = 40;
    const isInside = px > margin && py > margin && px < element.clientWidth - margin && py < element.clientHeight - margin;
    if (isInside && current.scale >= 0.3) return;
    view.current = { scale, x: element.clientWidth / 2 - x * scale, y: element.clientHeight / 2 - y * scale };
    draw();
  };

  useEffect(refit, [graph]);
  const repaint = () => {
    paint.current = null;
    draw();
  };
  useEffect(draw, [states, selected, again]);
  useEffect(repaint, [theme.value]);
  useEffect(() => show(selected), [selected]);
  useEffect(() => {
    if (isFollowing) show(states.indexOf("R"));
  }, [isFollowing, states]);
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const observer = new ResizeObserver(refit);
    observer.observe(element);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", repaint);
    const wheel = (event: WheelEvent) => {
      // The wheel zooms the graph if Ctrl is pressed or the graph has the focus. Otherwise, the wheel scrolls the page.
      if (!event.ctrlKey && document.activeElement !== element) return;
      event.preventDefault();
      const box = element.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", repaint);
      element.removeEventListener("wheel", wheel);
      cancelAnimationFrame(frame.current);
    };
  }, []);
  useKeys({ f: refit });

  const hit = (event: PointerEvent): number => {
    const { current } = view;
    const element = canvas.current;
    if (!current || !element) return -1;
    const box = element.getBoundingClientRect();
    const x = (event.clientX - box.left - current.x) / current.scale;
    const y = (event.clientY - box.top - current.y) / current.scale;
    const { graph } = latest.current;
    for (let index = 0; index < graph.tasks.length; index++) {
      const [cx, cy] = centre(graph, index);
      if (Math.abs(cx - x) <= WIDTH / 2 && Math.abs(cy - y) <= HEIGHT / 2) return index;
    }
    return -1;
  };
  const arrows: Record<string, [number, number]> = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
  const name = graph.tasks[selected];
  // A small graph takes only the height that it needs, which leaves more room for the table below it.
  const needed = Math.max(0, graph.height - 1) * ROW * 1.1 + HEIGHT + 100;
  return (
    <div class="graph" style={{ height: `min(${Math.round(needed)}px, clamp(240px, 44vh, 520px))` }}>
      <canvas ref={canvas} tabIndex={0} role="application"
        aria-label={`Graph of ${graph.tasks.length} tasks. Arrow keys move between tasks; the table below lists the same tasks.${name ? ` Selected: ${name}, ${STATE_OF[states[selected] ?? ""] ?? ""}.` : ""}${again ? ` Marked: the ${again.size} tasks that would run again.` : ""}`}
        onPointerDown={(event) => {
          drag.current = { x: event.clientX, y: event.clientY, moved: 0 };
          event.currentTarget.setPointerCapture(event.pointerId);
        }}
        onPointerMove={(event) => {
          const { current } = drag;
          if (!current) {
            const over = hit(event);
            event.currentTarget.title = over < 0 ? "" : `${graph.tasks[over]}: ${STATE_OF[states[over] ?? ""] ?? ""}`;
            event.currentTarget.style.cursor = over < 0 ? "grab" : "pointer";
            return;
          }
          const dx = event.clientX - current.x;
          const dy = event.clientY - current.y;
          current.moved += Math.abs(dx) + Math.abs(dy);
          current.x = event.clientX;
          current.y = event.clientY;
          if (view.current) view.current = { ...view.current, x: view.current.x + dx, y: view.current.y + dy };
          draw();
        }}
        onPointerCancel={() => {
          drag.current = null;
          draw();
        }}
        onPointerUp={(event) => {
          const moved = drag.current?.moved ?? 0;
          drag.current = null;
          // The graph is drawn again, because a moved picture can be blurred by a part of a pixel.
          if (moved > 0) draw();
          if (moved < 5) choose(hit(event));
        }}
        onKeyDown={(event) => {
          const arrow = arrows[event.key];
          if (arrow) {
            event.preventDefault();
            choose(selected < 0 ? 0 : step(graph, selected, ...arrow));
          } else if (event.key === "+" || event.key === "=") zoom(1.3);
          else if (event.key === "-") zoom(1 / 1.3);
        }} />
      <div class="graph-tools" ref={tools} role="toolbar" aria-label="View of the graph">
        <button type="button" aria-label="Zoom in" title="Zoom in (+)" onClick={() => zoom(1.3)}>+</button>
        <button type="button" aria-label="Zoom out" title="Zoom out (−)" onClick={() => zoom(1 / 1.3)}>−</button>
        <button type="button" title="Fit (f)" onClick={refit}>Fit</button>
      </div>
    </div>
  );
}
