// Converts times and durations to text. Times are in 24-hour format.
import { computed, signal } from "@preact/signals";
import { zone } from "./settings.ts";

/** The current time on the server's clock, in milliseconds since 1970. Updated every second. */
export const now = signal(Date.now());
let skew = 0;

export function setServerTime(time: string): void {
  skew = Date.parse(time) - Date.now();
  now.value = Date.now() + skew;
}

setInterval(() => {
  if (!document.hidden) now.value = Date.now() + skew;
}, 1000);

const two = (number: number) => String(number).padStart(2, "0");

const zoneFormat = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" });

export function zoneName(date = new Date()): string {
  if (zone.value === "utc") return "UTC";
  return zoneFormat.formatToParts(date).find((part) => part.type === "timeZoneName")?.value ?? "local";
}

export const currentZone = computed(() => zoneName());

function fields(date: Date): number[] {
  return zone.value === "utc"
    ? [date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate(), date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()]
    : [date.getFullYear(), date.getMonth() + 1, date.getDate(), date.getHours(), date.getMinutes(), date.getSeconds()];
}

/** Returns the date and time. The date is omitted if it is today, unless `whole` is true. */
export function clock(text: string, whole = false): string {
  const date = new Date(text);
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = fields(date);
  const time = `${two(hour)}:${two(minute)}:${two(second)}`;
  const today = fields(new Date(now.peek()));
  const isToday = year === today[0] && month === today[1] && day === today[2];
  if (isToday && !whole) return time;
  return `${year}-${two(month)}-${two(day)} ${time}`;
}

/** Returns the date and time with milliseconds. The date is omitted if it is today. */
export function exact(text: string): string {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? "";
  return `${clock(text)}.${fraction.slice(0, 3).padEnd(3, "0")}`;
}

/** Returns the date, the time with microseconds, and the time zone. */
export function precise(text: string): string {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? "";
  return `${clock(text, true)}${fraction ? `.${fraction.slice(0, 6)}` : ""} ${zoneName(new Date(text))}`;
}

/** Returns the date of a time, like 2026-11-30, in the time zone of the page. */
export function dateOf(time: Date): string {
  const [year = 0, month = 0, day = 0] = fields(time);
  return `${year}-${two(month)}-${two(day)}`;
}

/** Returns the first instant of a date, or of the date `later` days after it, in the time zone of the page; null if the text is not a date. */
export function startOf(date: string, later = 0): string | null {
  const [year = NaN, month = NaN, day = NaN] = /^\d{4}-\d\d-\d\d$/.test(date) ? date.split("-").map(Number) : [];
  const start = zone.value === "utc" ? new Date(Date.UTC(year, month - 1, day + later)) : new Date(year, month - 1, day + later);
  return Number.isNaN(start.getTime()) ? null : start.toISOString();
}

/** Returns today's date, or the date `earlier` days before it. */
export function today(earlier = 0): string {
  const start = startOf(dateOf(new Date(now.peek())), -earlier);
  return start === null ? "" : dateOf(new Date(start));
}

/** Returns the microseconds since 1970. */
export function micros(text: string): number {
  const digits = /\.(\d+)/.exec(text)?.[1]?.padEnd(6, "0").slice(3, 6) ?? "0";
  return Date.parse(text) * 1000 + Number(digits);
}

export function duration(microseconds: number): string {
  if (microseconds === 0) return "0 s";
  const ms = microseconds / 1000;
  if (ms < 1) return `${Math.round(microseconds)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(2) : seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${two(Math.floor(seconds % 60))} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Returns a time relative to now: "3 min ago", "in 2 h". */
export function relative(text: string, at = now.value): string {
  const seconds = (Date.parse(text) - at) / 1000;
  const size = Math.abs(seconds);
  if (size < 1.5) return "now";
  const units: [number, string][] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [length, unit] = units.find(([length]) => size >= length) ?? [1, "s"];
  const shown = `${Math.floor(size / length)} ${unit}`;
  return seconds < 0 ? `${shown} ago` : `in ${shown}`;
}

/** Returns a number with a comma between groups of three digits. */
export const grouped = (number: number): string => number.toLocaleString("en");

export function bytes(count: number): string {
  if (count < 1000) return `${count} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = count;
  let unit = -1;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit] ?? ""}`;
}
