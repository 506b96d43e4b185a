// Keyboard shortcuts. Components register shortcuts while they are shown.
import { useLayoutEffect, useRef } from "preact/hooks";
import { singleKeys } from "./settings.ts";

type Action = (event: KeyboardEvent) => void;

const active: { readonly keys: Record<string, Action> }[] = [];
let prefix = "";
let prefixTimer = 0;

const isField = (target: EventTarget | null) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** Whether the browser handles the key for the focused element, for example Enter on a link. */
const isOwnKey = (event: KeyboardEvent) =>
  (event.key === "Enter" || event.key === " ") && event.target instanceof Element && event.target.closest("a[href], button, summary") !== null;

export function handleKeys(): void {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented) return;
    const isCommand = event.ctrlKey || event.metaKey;
    if (isCommand && event.key.toLowerCase() === "k") return run("Ctrl-K", event);
    if (event.key === "Escape" && isField(event.target) && !document.querySelector("dialog[open]")) {
      document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true });
      return;
    }
    if (isCommand || event.altKey || isField(event.target) || isOwnKey(event) || document.querySelector("dialog[open]")) return;
    if (singleKeys.value === "off") return;
    const name = prefix ? `${prefix} ${event.key}` : event.key;
    prefix = "";
    if (event.key === "g") {
      prefix = "g";
      clearTimeout(prefixTimer);
      prefixTimer = window.setTimeout(() => (prefix = ""), 1200);
      return;
    }
    run(name, event);
  });
}

function run(name: string, event: KeyboardEvent): void {
  for (const { keys } of active.toReversed()) {
    const action = keys[name];
    if (action) {
      event.preventDefault();
      action(event);
      return;
    }
  }
}

/** Registers shortcuts while a component is shown. With `isBase`, shortcuts of other components take precedence. */
export function useKeys(keys: Record<string, Action>, isBase = false): void {
  const latest = useRef(keys);
  latest.current = keys;
  // Not `useEffect`, which runs some time after the component is shown: keys that are pressed meanwhile would be lost.
  useLayoutEffect(() => {
    const own = { get keys() { return latest.current; } };
    if (isBase) active.unshift(own);
    else active.push(own);
    return () => void active.splice(active.indexOf(own), 1);
  }, []);
}
