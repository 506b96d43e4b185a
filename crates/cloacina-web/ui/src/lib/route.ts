// The place in the page: a path below the mount, the query, and the selected task in the fragment.
import { computed, signal } from "@preact/signals";

// The browser resolves the base element against the first URL. Later URLs do not change it.
export const MOUNT = new URL(document.baseURI).pathname;

const read = () => ({ path: location.pathname, query: location.search, hash: location.hash });
const place = signal(read());

addEventListener("popstate", () => (place.value = read()));
addEventListener("hashchange", () => (place.value = read()));

/** The parts of the path below the mount. */
export const parts = computed(() => {
  const { path } = place.value;
  const below = path.startsWith(MOUNT) ? path.slice(MOUNT.length) : "";
  return below.split("/").filter(Boolean).map(decodeURIComponent);
});

export const query = computed(() => new URLSearchParams(place.value.query));
export const fragment = computed(() => new URLSearchParams(place.value.hash.slice(1)));

/** The tenant that the page is about; kept by all links. */
export const tenant = computed(() => query.value.get("tenant"));

export type Query = Record<string, string | string[] | null | undefined>;

/** The URL of a page below the mount. */
export function url(path: string, values: Query = {}, hash = ""): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") search.append(name, one);
    }
  }
  if (tenant.value && !search.has("tenant")) search.set("tenant", tenant.value);
  const text = search.toString();
  return MOUNT + path + (text ? `?${text}` : "") + (hash ? `#${hash}` : "");
}

export function go(to: string, replace = false): void {
  history[replace ? "replaceState" : "pushState"](null, "", to);
  const before = place.value.path;
  place.value = read();
  if (place.value.path !== before) {
    scrollTo(0, 0);
    requestAnimationFrame(() => document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true }));
  }
}

/** Sets parameters of the query, and leaves the others. */
export function setQuery(values: Query, replace = false): void {
  const all: Query = {};
  for (const name of new Set(query.value.keys())) all[name] = query.value.getAll(name);
  go(url(parts.value.map(encodeURIComponent).join("/"), { ...all, ...values }), replace);
}

export function select(task: string | null): void {
  const hash = task === null ? "" : `#task=${encodeURIComponent(task)}`;
  go(location.pathname + location.search + hash, true);
}

/** Follows links inside the page without loading it again. */
export function followLinks(): void {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element).closest<HTMLAnchorElement>("a[href]");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!link.pathname.startsWith(MOUNT) || link.pathname.startsWith(`${MOUNT}api/`)) return;
    event.preventDefault();
    go(link.href);
  });
}
