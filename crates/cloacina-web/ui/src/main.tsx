import { render } from "preact";
import { handleKeys } from "./lib/keys.ts";
import { follow } from "./lib/live.ts";
import { loadMeta } from "./lib/meta.ts";
import { followLinks } from "./lib/route.ts";
import { applySettings } from "./lib/settings.ts";
import { App } from "./app.tsx";

applySettings();
followLinks();
handleKeys();
void loadMeta().then(follow);

const root = document.getElementById("app");
if (root) render(<App />, root);
