// The current location: a path below the mount, the query, and the selected task in the fragment.
import { computed, signal } from "@preact/signals";

/**
 * The path below which the server serves the page; it ends with a slash. It comes from the base element, which the browser
 * resolves only once, when it loads the page. So later changes of the URL do not change this path.
 */
export const MOUNT = new URL(document.baseURI).pathname;

const read = () => ({ path: location.pathname, query: location.search, hash: location.hash });
const current = signal(read());

addEventListener("popstate", () => (current.value = read()));
addEventListener("hashchange", () => (current.value = read()));

/** The parts of the path below the mount. */
export const parts = computed(() => {
  const { path } = current.value;
  const below = path.startsWith(MOUNT) ? path.slice(MOUNT.length) : "";
  return below.split("/").filter(Boolean).map(decodeURIComponent);
});

export const query = computed(() => new URLSearchParams(current.value.query));
export const fragment = computed(() => new URLSearchParams(current.value.hash.slice(1)));

/** The tenant whose data the page shows. All links keep it. */
export const tenant = computed(() => query.value.get("tenant"));

export type Query = Record<string, string | string[] | null | undefined>;

/** Returns the URL of a page below the mount. */
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
  const before = current.value.path;
  current.value = read();
  if (current.value.path !== before) {
    scrollTo(0, 0);
    requestAnimationFrame(() => document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true }));
  }
}

/** Sets some parameters of the query. The other parameters keep their values. */
export function setQuery(values: Query, replace = false): void {
  const all: Query = {};
  for (const name of new Set(query.value.keys())) all[name] = query.value.getAll(name);
  go(url(parts.value.map(encodeURIComponent).join("/"), { ...all, ...values }), replace);
}

/** Returns the URL of this page with a task selected. A bare fragment would lead to the mount, because of the base element. */
export const taskLink = (task: string): string => `${current.value.path}${current.value.query}#task=${encodeURIComponent(task)}`;

export function select(task: string | null): void {
  const hash = task === null ? "" : `#task=${encodeURIComponent(task)}`;
  go(location.pathname + location.search + hash, true);
}

/** Handles clicks on links to any path of the app (below the mount, except the API) without loading a page. */
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
