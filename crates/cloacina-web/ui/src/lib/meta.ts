// Information about the server, and the permissions of the caller.
import { signal } from "@preact/signals";
import { get } from "./api.ts";
import { setServerTime } from "./time.ts";
import type { Meta } from "./types.ts";

export const meta = signal<Meta | null>(null);
export const metaError = signal<Error | null>(null);

/** The number of items that need attention. The title and the navigation show it. */
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
