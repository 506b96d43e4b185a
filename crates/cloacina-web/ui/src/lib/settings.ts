// Settings that are stored in this browser.
import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

function stored<T extends string>(name: string, allowed: readonly T[], otherwise: T) {
  let initial = otherwise;
  try {
    const value = localStorage.getItem(`cloaca-${name}`) as T | null;
    if (value !== null && allowed.includes(value)) initial = value;
  } catch {
    // The browser does not allow storage.
  }
  const setting = signal<T>(initial);
  effect(() => {
    const { value } = setting;
    try {
      localStorage.setItem(`cloaca-${name}`, value);
    } catch {
      // Without storage, the setting lasts until the page is closed.
    }
  });
  return setting;
}

export const theme = stored<Theme>("theme", ["system", "light", "dark"], "system");
export const zone = stored<"local" | "utc">("zone", ["local", "utc"], "local");
export const density = stored<"compact" | "comfortable">("density", ["compact", "comfortable"], "compact");
export const singleKeys = stored<"on" | "off">("keys", ["on", "off"], "on");

export function applySettings(): void {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    document.documentElement.dataset.density = density.value;
  });
}
