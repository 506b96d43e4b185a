// The header with the settings, and the navigation.
import { attention, meta } from "../lib/meta.ts";
import { isPaused, state } from "../lib/live.ts";
import { parts, tenant, url } from "../lib/route.ts";
import type { Tenant } from "../lib/schema.ts";
import { density, singleKeys, theme, zone } from "../lib/settings.ts";
import { clock, currentZone, now } from "../lib/time.ts";
import type { Page } from "../lib/types.ts";
import { useGet } from "../lib/use.ts";
import { Choice, useShown } from "./basics.tsx";

const LIVE: Record<string, string> = {
  live: "live", polling: "every 3 s", paused: "paused", offline: "offline", connecting: "…",
};

function LiveSwitch() {
  return (
    <button type="button" class={`plain live ${state.value}`} aria-pressed={isPaused.value}
      title={isPaused.value ? "Follow changes again (p)" : "Pause live updates (p)"}
      onClick={() => (isPaused.value = !isPaused.value)}>
      <span class="dot" aria-hidden="true" />
      <span>{LIVE[state.value]}</span>
    </button>
  );
}

function TenantPicker() {
  const { data } = useGet<Page<Tenant>>(meta.value?.backend === "postgres" ? "/tenants" : null, false);
  if (!data || data.items.length === 0) return null;
  return (
    <label class="tenant">
      <span class="quiet">tenant</span>{" "}
      <select aria-label="tenant" value={tenant.value ?? ""} onChange={(event) => {
        const { value } = event.currentTarget;
        location.href = value ? `${url("", { tenant: value })}` : new URL(url("").split("?")[0] ?? "", location.origin).href;
      }}>
        <option value="">the database</option>
        {data.items.map(({ schema }) => <option key={schema} value={schema}>{schema}</option>)}
      </select>
    </label>
  );
}

/** Shortens the location of the database: to the name of the file, or to the host and the database. */
function shortLocation(location: string): string {
  const parts = location.split("/");
  return parts.slice(location.startsWith("postgres") ? 2 : -1).join("/");
}

export function Header({ help }: { help: () => void }) {
  const { value } = meta;
  return (
    <header class="top">
      <a class="brand" href={url("")} aria-label="cloaca">
        <svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="3.500" r="2" /><circle cx="3.500" cy="12" r="2" /><circle cx="12.500" cy="12" r="2" /><path d="M7 5.500 4.500 10M9 5.500l2.500 4.500" /></svg>
        <span>cloaca</span>
      </a>
      {value && <span class="location" title={value.location}>{shortLocation(value.location)}</span>}
      <TenantPicker />
      {value?.read_only && <span class="badge">read-only</span>}
      <span class="space" />
      <button type="button" class="search" onClick={() => dispatchEvent(new CustomEvent("cloaca:palette"))}>
        <span>Search</span> <kbd>Ctrl K</kbd>
      </button>
      <LiveSwitch />
      <span class="clock" title="The time on the server, in the time zone of this page">
        <span class="clock-time">{clock(new Date(now.value).toISOString())}</span> {currentZone.value}
      </span>
      <details class="menu" name="menu">
        <summary aria-label="Settings"><span aria-hidden="true">⚙</span></summary>
        <div class="menu-body">
          <Choice label="Theme" value={theme.value} choose={(value) => (theme.value = value)}
            options={[["system", "System"], ["light", "Light"], ["dark", "Dark"]]} />
          <Choice label="Time zone" value={zone.value} choose={(value) => (zone.value = value)}
            options={[["local", "Local time"], ["utc", "UTC"]]} />
          <Choice label="Row height" value={density.value} choose={(value) => (density.value = value)}
            options={[["compact", "Compact"], ["comfortable", "Comfortable"]]} />
          <Choice label="Single-key shortcuts" value={singleKeys.value} choose={(value) => (singleKeys.value = value)}
            options={[["on", "Keys on"], ["off", "Keys off"]]} />
          {value && <p class="quiet">cloaca {value.version} · {value.user} · {value.backend}</p>}
          <p class="quiet"><a href={url("").split("?")[0] + "assets/THIRD_PARTY.txt"} target="_blank">Licenses</a></p>
        </div>
      </details>
      <button type="button" class="plain" aria-label="Keys" title="Keys (?)" onClick={help}>?</button>
    </header>
  );
}

const PAGES = [
  ["", "Attention"], ["executions", "Executions"], ["workflows", "Workflows"], ["schedules", "Schedules"],
  ["waiting", "Waiting"], ["runners", "Runners"], ["database", "Database"],
] as const;

export function Navigation() {
  const current = parts.value[0] ?? "";
  const rail = useShown(current);
  return (
    <nav class="rail" aria-label="Pages" ref={rail}>
      <ul>
        {PAGES.map(([path, title]) => (
          <li key={path}>
            <a href={url(path)} aria-current={current === path ? "page" : undefined}>
              {title}
              {path === "" && attention.value > 0 && <span class="count" title="items that need attention">{attention.value}</span>}
            </a>
          </li>
        ))}
        {meta.value?.backend === "postgres" && (
          <li><a href={url("tenants")} aria-current={current === "tenants" ? "page" : undefined}>Tenants</a></li>
        )}
      </ul>
    </nav>
  );
}
