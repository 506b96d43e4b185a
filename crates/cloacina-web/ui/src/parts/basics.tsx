// Small components that many pages use.
import type { ComponentChildren } from "preact";
import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { ApiError } from "../lib/api.ts";
import { onDatabase } from "../lib/command.ts";
import { url } from "../lib/route.ts";
import { clock, exact, precise, relative } from "../lib/time.ts";

export const toast = signal<{ text: string; isError: boolean } | null>(null);
let toastTimer = 0;

export function say(text: string, isError = false): void {
  toast.value = { text, isError };
  clearTimeout(toastTimer);
  toastTimer = window.setTimeout(() => (toast.value = null), isError ? 12000 : 5000);
}

export function Toast() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toast.value && (
        <div class={toast.value.isError ? "toast bad" : "toast"}>
          <span>{toast.value.text}</span>
          <button type="button" class="plain" aria-label="Dismiss" onClick={() => (toast.value = null)}>×</button>
        </div>
      )}
    </div>
  );
}

/** A time. The tooltip shows the date, the time with microseconds, and the zone. */
export function Time({ at, isRelative = false, isExact = false }: { at: string | null | undefined; isRelative?: boolean; isExact?: boolean }) {
  if (!at) return <span class="quiet">–</span>;
  return (
    <time dateTime={at} title={isRelative ? precise(at) : `${precise(at)}, ${relative(at)}`}>
      {isRelative ? relative(at) : isExact ? exact(at) : clock(at)}
    </time>
  );
}

/** Whether a text is an absolute `http` or `https` URL. */
export const isLink = (text: string | null | undefined): text is string => /^https?:\/\//.test(text ?? "");

/** Scrolls a row of links that is wider than the page, so that the current link is visible. */
export function useShown(current: string) {
  const row = useRef<HTMLElement>(null);
  useEffect(() => {
    const entry = row.current?.querySelector<HTMLElement>("[aria-current]");
    if (entry && row.current) row.current.scrollLeft = entry.offsetLeft - row.current.offsetLeft - (row.current.clientWidth - entry.offsetWidth) / 2;
  }, [current]);
  return row;
}

export const shortId = (id: string) => (id.length > 13 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id);

export async function copy(text: string, what = "Copied"): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what}: ${text.length > 80 ? `${text.slice(0, 80)}…` : text}`);
  } catch {
    say(`The browser does not allow copying: ${text}`, true);
  }
}

export function Copy({ text, what }: { text: string; what: string }) {
  return (
    <button type="button" class="plain small" aria-label={`Copy ${what}`} title={`Copy ${what}`} onClick={() => void copy(text)}>
      <svg viewBox="0 0 14 14" class="icon" aria-hidden="true"><rect x="4.500" y="4.500" width="8" height="8" rx="1" /><path d="M9.500 4.500v-3h-8v8h3" /></svg>
    </button>
  );
}

/** A terminal command for the server's database, with a button that copies it. */
export function Command({ text: command }: { text: string }) {
  const text = onDatabase(command);
  return (
    <div class="command">
      <code tabIndex={0}>{text}</code>
      <Copy text={text} what="the command" />
    </div>
  );
}

export function ErrorBox({ error, retry }: { error: ApiError; retry?: () => void }) {
  const { problem } = error;
  return (
    <div class="box bad" role="alert">
      <strong>{problem.status === 0 ? "The server does not answer." : problem.title}</strong>
      <p>{problem.detail}</p>
      {problem.errors?.map((one) => <p key={one.pointer}><code>{one.pointer}</code> {one.detail}</p>)}
      {problem.hint && <p class="quiet">{problem.hint}</p>}
      {problem.hint?.includes("?tenant=") && <p><a href={url("tenants")}>Choose a tenant</a></p>}
      {retry && <button type="button" onClick={retry}>Try again</button>}
    </div>
  );
}

export function Loading({ what = "Loading…" }: { what?: string }) {
  const [isLate, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 400);
    return () => clearTimeout(timer);
  }, []);
  return <p class="quiet loading" role="status">{isLate ? what : ""}</p>;
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** Replaces the page of an object that does not exist or cannot be loaded. `list` is the name of the page that lists the objects of its kind. */
export function Missing({ kind, list, error, retry }: { kind: string; list: string; error: ApiError; retry?: () => void }) {
  const { status } = error.problem;
  if (status !== 404) return <><h1>The {kind} cannot be shown</h1><ErrorBox error={error} {...(retry && { retry })} /></>;
  return (
    <div class="empty">
      <h1>There is no such {kind}</h1>
      <p>{error.message}</p>
      <p class="quiet">It may have been deleted, or belong to another database or tenant.</p>
      <p><a class="button" href={url(list)}>Show all {list}</a></p>
    </div>
  );
}

export function Dialog({ title, close, children, isWide = false }: {
  title: string;
  close: () => void;
  children: ComponentChildren;
  isWide?: boolean;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  // The dialog opens before the browser paints, so that it receives the next key that the user presses.
  useLayoutEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    dialog.current?.showModal();
    return () => before?.focus();
  }, []);
  return (
    <dialog ref={dialog} class={isWide ? "wide" : ""} aria-label={title} onClose={close}
      onClick={(event) => event.target === dialog.current && close()}>
      <div class="dialog-body">
        <header>
          <h2>{title}</h2>
          <button type="button" class="plain" aria-label="Close" onClick={close}>×</button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

const narrow = matchMedia("(max-width: 720px)");
const isNarrow = signal(narrow.matches);
narrow.addEventListener("change", () => (isNarrow.value = narrow.matches));

/** Returns the height of a row in pixels. On a narrow page, a row has a second line. */
export const rowHeight = (wide: number, tall: number) => (isNarrow.value ? tall : wide);

/** A list that renders only its visible rows. */
export function Rows({ count, height, label, render, shown }: {
  count: number;
  height: number;
  label: string;
  render: (index: number) => ComponentChildren;
  shown?: number | undefined;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [range, setRange] = useState<[number, number]>([0, 60]);
  const measure = () => {
    const { current } = box;
    if (!current) return;
    const first = Math.max(0, Math.floor(current.scrollTop / height) - 10);
    const last = Math.ceil((current.scrollTop + current.clientHeight) / height) + 10;
    setRange((before) => (before[0] === first && before[1] === last ? before : [first, last]));
  };
  useEffect(measure, [count, height]);
  useEffect(() => {
    const { current } = box;
    if (!current || shown === undefined || shown < 0) return;
    const top = shown * height;
    if (top < current.scrollTop || top + height > current.scrollTop + current.clientHeight) {
      current.scrollTop = top - current.clientHeight / 2;
    }
  }, [shown, height]);
  const indexes = [];
  for (let index = range[0]; index < Math.min(count, range[1]); index++) indexes.push(index);
  return (
    <div class="rows" ref={box} onScroll={measure} role="list" aria-label={label} tabIndex={0}>
      <div class="rows-space" role="presentation" style={{ height: `${count * height}px` }}>
        {indexes.map((index) => (
          <div key={index} role="listitem" class="row" aria-setsize={count} aria-posinset={index + 1}
            style={{ top: `${index * height}px`, height: `${height}px` }}>
            {render(index)}
          </div>
        ))}
      </div>
    </div>
  );
}

/** A choice of one of several options. */
export function Choice<T extends string>({ label, value, options, choose }: {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  choose: (value: T) => void;
}) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {options.map(([option, text]) => (
        <button type="button" key={option} aria-pressed={option === value} onClick={() => choose(option)}>{text}</button>
      ))}
    </div>
  );
}
