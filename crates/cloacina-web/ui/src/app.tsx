import { effect } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { attention, loadMeta, meta, metaError } from "./lib/meta.ts";
import { ApiError } from "./lib/api.ts";
import { useKeys } from "./lib/keys.ts";
import { isPaused } from "./lib/live.ts";
import { go, parts, url } from "./lib/route.ts";
import { theme } from "./lib/settings.ts";
import { ErrorBox, Toast, copy } from "./parts/basics.tsx";
import { Header, Navigation } from "./parts/shell.tsx";
import { Help, Palette } from "./parts/palette.tsx";
import { AttentionPage } from "./pages/attention.tsx";
import { ComparePage } from "./pages/compare.tsx";
import { DatabasePage, RunnersPage, TenantsPage } from "./pages/places.tsx";
import { ExecutionPage } from "./pages/execution.tsx";
import { ExecutionsPage } from "./pages/executions.tsx";
import { SchedulePage, SchedulesPage } from "./pages/schedules.tsx";
import { StartPage } from "./pages/start.tsx";
import { WaitingPage } from "./pages/waiting.tsx";
import { WorkflowPage, WorkflowsPage } from "./pages/workflows.tsx";

const TITLES: Record<string, string> = {
  executions: "Executions", compare: "Compare", workflows: "Workflows", schedules: "Schedules",
  waiting: "Waiting", runners: "Runners", tenants: "Tenants", database: "Database",
};

effect(() => {
  const [page = "", name, tab] = parts.value;
  const pageTitle = [tab, name, TITLES[page] ?? "Attention"].filter(Boolean).join(" · ");
  document.title = `${attention.value ? `(${attention.value}) ` : ""}${pageTitle} · cloaca`;
  const icon = document.querySelector<HTMLLinkElement>("link[rel=icon]");
  const wanted = attention.value ? "assets/icon-alert.svg" : "assets/icon.svg";
  if (icon && icon.getAttribute("href") !== wanted) icon.setAttribute("href", wanted);
});

function Content() {
  const [page, name, tab] = parts.value;
  switch (page) {
    case undefined: return <AttentionPage />;
    case "executions": return name ? <ExecutionPage key={name} id={name} tab={tab ?? "overview"} /> : <ExecutionsPage />;
    case "compare": return <ComparePage />;
    case "workflows":
      if (!name) return <WorkflowsPage />;
      return tab === "start" ? <StartPage key={name} name={name} /> : <WorkflowPage key={name} name={name} />;
    case "schedules": return name ? <SchedulePage key={name} id={name} /> : <SchedulesPage />;
    case "waiting": return <WaitingPage />;
    case "runners": return <RunnersPage />;
    case "tenants": return <TenantsPage />;
    case "database": return <DatabasePage />;
    default: return <h1>There is no such page</h1>;
  }
}

export function App() {
  const [palette, setPalette] = useState(false);
  const [help, setHelp] = useState(false);
  useEffect(() => {
    const open = () => setPalette(true);
    addEventListener("cloaca:palette", open);
    return () => removeEventListener("cloaca:palette", open);
  }, []);
  useKeys({
    "Ctrl-K": () => setPalette(true),
    "?": () => setHelp(true),
    "g h": () => go(url("")),
    "g e": () => go(url("executions")),
    "g w": () => go(url("workflows")),
    "g s": () => go(url("schedules")),
    "g r": () => go(url("runners")),
    "g q": () => go(url("waiting")),
    "g d": () => go(url("database")),
    p: () => (isPaused.value = !isPaused.value),
    T: () => (theme.value = theme.value === "dark" ? "light" : "dark"),
    "/": () => document.querySelector<HTMLElement>("[data-filter]")?.focus(),
    c: () => void copy(parts.value[1] ?? location.href),
  }, true);
  const error = metaError.value;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.querySelector<HTMLElement>("main")?.focus();
      }}>Skip to the content</a>
      <Header help={() => setHelp(true)} />
      <div class="frame">
        <Navigation />
        <main tabIndex={-1} id="main">
          {error instanceof ApiError && !meta.value && parts.value[0] !== "tenants"
            ? <ErrorBox error={error} retry={() => void loadMeta()} />
            : <Content />}
        </main>
      </div>
      {palette && <Palette close={() => setPalette(false)} help={() => setHelp(true)} />}
      {help && <Help close={() => setHelp(false)} />}
      <Toast />
    </>
  );
}
