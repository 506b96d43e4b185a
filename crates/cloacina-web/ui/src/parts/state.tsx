// Shows a state with a colour, a shape and a word.
import type { JSX } from "preact";

type Family = "run" | "done" | "fail" | "wait" | "rest";

const FAMILY: Record<string, Family> = {
  Running: "run",
  Completed: "done",
  Failed: "fail",
  Paused: "wait",
  Retrying: "wait",
  Waiting: "wait",
  Pending: "rest",
  Ready: "rest",
  Skipped: "rest",
  Cancelled: "rest",
};

export const family = (state: string): Family => FAMILY[state] ?? "rest";

const SHAPES: Record<string, JSX.Element> = {
  Running: <><circle cx="7" cy="7" r="5.25" class="line" /><path d="M7 1.750a5.250 5.250 0 0 1 0 10.500z" class="fill" /></>,
  Completed: <><circle cx="7" cy="7" r="6" class="fill" /><path d="M4.300 7.200l1.900 1.900 3.500-3.900" class="cut" /></>,
  Failed: <><rect x="1" y="1" width="12" height="12" rx="1" class="fill" /><path d="M4.500 4.500l5 5m0-5l-5 5" class="cut" /></>,
  Paused: <><path d="M7 .9l6.100 6.100-6.100 6.100L.9 7z" class="line" /><path d="M5.800 5v4m2.400-4v4" class="line" /></>,
  Waiting: <><path d="M7 .9l6.100 6.100-6.100 6.100L.9 7z" class="line" /><path d="M7 4.500V7l1.700 1.300" class="line" /></>,
  Retrying: <><path d="M7 .9l6.100 6.100-6.100 6.100L.9 7z" class="line" /><path d="M5.200 7.500a2 2 0 1 0 .6-1.900M5.500 4.400v1.400h1.400" class="line" /></>,
  Pending: <circle cx="7" cy="7" r="5.250" class="line dotted" />,
  Ready: <circle cx="7" cy="7" r="5.250" class="line" />,
  Skipped: <><circle cx="7" cy="7" r="5.250" class="line dashed" /><path d="M4.500 7h4m-1.500-1.700L8.700 7 7 8.700" class="line" /></>,
  Cancelled: <><circle cx="7" cy="7" r="5.250" class="line" /><path d="M3.400 10.600l7.200-7.200" class="line" /></>,
};

export function Mark({ of }: { of: string }) {
  return (
    <svg class={`mark ${family(of)}`} viewBox="0 0 14 14" aria-hidden="true">
      {SHAPES[of] ?? SHAPES.Ready}
    </svg>
  );
}

export function State({ of, note }: { of: string; note?: string | undefined }) {
  return (
    <span class={`state ${family(of)}`}>
      <Mark of={of} />
      <span>{of}{note ? <span class="quiet"> {note}</span> : null}</span>
    </span>
  );
}
