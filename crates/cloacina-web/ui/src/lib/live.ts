// Live updates: the stream of changes, or polling where it is not available.
import { effect, signal } from "@preact/signals";
import { get } from "./api.ts";
import { MOUNT, tenant } from "./route.ts";

export type Live = "live" | "polling" | "paused" | "offline" | "connecting";

/** Grows when the database may have changed. */
export const changes = signal(0);
export const isPaused = signal(false);
export const state = signal<Live>("connecting");

const SHORTEST = 500;
const POLL = 3000;

let source: EventSource | null = null;
let timer = 0;
let failures = 0;
let last = 0;
let marker: string | null = null;
let pending = 0;

/** Whether a person is doing something that new data would disturb. */
function isBusy(): boolean {
  const selected = getSelection();
  const hasText = selected !== null && !selected.isCollapsed && selected.toString() !== "";
  return document.querySelector("dialog[open]") !== null || hasText;
}

export function notice(): void {
  clearTimeout(pending);
  const wait = Math.max(0, last + SHORTEST - Date.now());
  pending = window.setTimeout(() => {
    if (isBusy()) {
      notice();
      return;
    }
    last = Date.now();
    changes.value++;
  }, wait || (isBusy() ? SHORTEST : 0));
}

function close(): void {
  source?.close();
  source = null;
  clearTimeout(timer);
}

async function poll(): Promise<void> {
  try {
    const after = marker === null ? "" : `?after=${encodeURIComponent(marker)}`;
    const answer = await get<{ marker: string; changed: boolean }>(`/changes${after}`);
    if (answer.changed && marker !== null) notice();
    if (state.value === "offline") notice();
    marker = answer.marker;
    state.value = "polling";
  } catch {
    state.value = "offline";
  }
  timer = window.setTimeout(() => void poll(), POLL);
}

function open(): void {
  close();
  if (failures >= 3) {
    void poll();
    return;
  }
  const search = tenant.value ? `?tenant=${encodeURIComponent(tenant.value)}` : "";
  source = new EventSource(`${MOUNT}api/v1/stream${search}`);
  source.onopen = () => {
    if (state.value === "offline") notice();
    failures = 0;
    state.value = "live";
  };
  source.addEventListener("changed", notice);
  source.onerror = () => {
    state.value = "offline";
    // The browser reconnects by itself, but not after an answer that is not a stream.
    if (source?.readyState === EventSource.CLOSED) {
      failures++;
      close();
      timer = window.setTimeout(open, 2000);
    }
  };
}

/** Follows the changes while the page is visible. */
export function follow(): void {
  effect(() => {
    tenant.value;
    if (isPaused.value) {
      close();
      state.value = "paused";
    } else {
      open();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (isPaused.value) return;
    if (document.hidden) {
      close();
    } else {
      open();
      notice();
    }
  });
}
