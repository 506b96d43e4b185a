// The server, and what the person at the page may do.
import { signal } from "@preact/signals";
import { get } from "./api.ts";
import { setServerTime } from "./time.ts";
import type { Meta } from "./types.ts";

export const meta = signal<Meta | null>(null);
export const metaError = signal<Error | null>(null);

/** The number of executions and schedules that are stuck; shown in the title and in the navigation. */
export const attention = signal(0);

export async function loadMeta(): Promise<void> {
  try {
    const found = await get<Meta>("/meta");
    setServerTime(found.time);
    meta.value = found;
    metaError.value = null;
  } catch (error) {
    metaError.value = error as Error;
  }
}
