// Requests to the HTTP API.
import { MOUNT, tenant } from "./route.ts";
import type { Page, Problem } from "./types.ts";

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }
}

const cache = new Map<string, { tag: string; text: string }>();
/** Maximum number of cached answers. */
const MAX_CACHED = 200;

/** Returns the URL of a route, for the tenant of the page. */
export function address(path: string): string {
  const target = new URL(`${MOUNT}api/v1${path}`, location.origin);
  if (tenant.value) target.searchParams.set("tenant", tenant.value);
  return target.href;
}

async function failure(response: Response): Promise<ApiError> {
  const text = await response.text();
  try {
    return new ApiError(JSON.parse(text) as Problem);
  } catch {
    const { status } = response;
    return new ApiError({ code: "unreadable", title: response.statusText, status, detail: `the server answered with status ${status}` });
  }
}

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  try {
    return await fetch(address(path), { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException) throw error;
    throw new ApiError({ code: "offline", title: "offline", status: 0, detail: "the server does not answer" });
  }
}

/** Returns the text of an answer. The text comes from the cache if the server reports that the answer has not changed. */
export async function getText(path: string, signal?: AbortSignal): Promise<string> {
  const known = cache.get(address(path));
  const headers: HeadersInit = known ? { "If-None-Match": known.tag } : {};
  const response = await ask(path, { headers, signal: signal ?? null });
  if (response.status === 304 && known) return known.text;
  if (!response.ok) throw await failure(response);
  const text = await response.text();
  const tag = response.headers.get("ETag");
  if (tag && text.length < 1 << 20) {
    if (cache.size >= MAX_CACHED) cache.delete(cache.keys().next().value ?? "");
    cache.set(address(path), { tag, text });
  }
  return text;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return JSON.parse(await getText(path, signal)) as T;
}

export async function send<T>(method: string, path: string, body: unknown = {}): Promise<T> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const headers = { "Content-Type": "application/json", "X-Cloaca": "1" };
  const response = await ask(path, { method, headers, ...(method === "DELETE" ? {} : { body: text }) });
  if (!response.ok) throw await failure(response);
  const answer = await response.text();
  return (answer ? JSON.parse(answer) : null) as T;
}

/** Loads pages of a list, by their cursors, until at least `enough` items are loaded or the list ends. */
export async function getAll<T>(path: string, enough: number, signal?: AbortSignal): Promise<T[]> {
  const items: T[] = [];
  let next: string | null = null;
  do {
    const more: string = next === null ? "" : `&cursor=${encodeURIComponent(next)}`;
    const page: Page<T> = await get<Page<T>>(path + more, signal);
    items.push(...page.items);
    next = page.next;
  } while (next !== null && items.length < enough);
  return items;
}

/** Runs `work` for each item, for at most `width` items at once. */
export async function each<T>(items: readonly T[], work: (item: T) => Promise<void>, width = 4): Promise<void> {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: width }, worker));
}

export const part = encodeURIComponent;
