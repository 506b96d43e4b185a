// Live updates: follows the stream of changes. Polls if the stream is not available, or if it would occupy a thread of the server.
import { effect, signal } from "@preact/signals";
import { get } from "./api.ts";
import { meta } from "./meta.ts";
import { MOUNT, tenant } from "./route.ts";
import type { ChangesView } from "./schema.ts";

export type Live = "live" | "polling" | "paused" | "offline" | "connecting";

/** A counter that grows when the database may have changed. */
export const changes = signal(0);
export const isPaused = signal(false);
export const state = signal<Live>("connecting");

/** Minimum time between two updates of the page, in milliseconds. */
const SHORTEST = 500;
/** Time between two polls, in milliseconds. */
const POLL = 3000;

let source: EventSource | null = null;
let timer = 0;
let failures = 0;
let last = 0;
let marker: string | null = null;
let pending = 0;
/** Increases whenever the stream or the polling ends, so that a request that is still running does not continue the polling. */
let period = 0;

/** Whether an update would disturb the user: a dialog is open, or text is selected. */
function isBusy(): boolean {
  const selected = getSelection();
  const hasText = selected !== null && !selected.isCollapsed && selected.toString() !== "";
  return document.querySelector("dialog[open]") !== null || hasText;
}

/** Updates the page, at the earliest `SHORTEST` after the last update. The update is postponed while it would disturb the user. */
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
  period++;
}

async function poll(): Promise<void> {
  const own = period;
  try {
    const after = marker === null ? "" : `?after=${encodeURIComponent(marker)}`;
    const answer = await get<ChangesView>(`/changes${after}`);
    if (own !== period) return;
    if (answer.changed && marker !== null) notice();
    if (state.value === "offline") notice();
    marker = answer.marker;
    state.value = "polling";
  } catch {
    if (own !== period) return;
    state.value = "offline";
  }
  timer = window.setTimeout(() => void poll(), POLL);
}

function open(): void {
  close();
  if (failures >= 3 || meta.peek()?.live === "poll") {
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
    // The browser reconnects automatically, except after an answer that is not a stream.
    if (source?.readyState === EventSource.CLOSED) {
      failures++;
      close();
      timer = window.setTimeout(open, 2000);
    }
  };
}

/** Follows changes of the database while the page is visible. */
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
