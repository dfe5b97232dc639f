/** What `groundcrew dev` and `groundcrew serve` run: `npm run dev -w examples`. */
import { groundcrew } from "groundcrew";
import { openOutside } from "./support/outside.ts";

await openOutside();
const { support } = await import("./support/support.ts"); // reads the addresses that the line above has set
const { recall } = await import("./flow.ts");

const store = process.env["GROUNDCREW_DEMO_STORE"];
// biome-ignore lint/style/noDefaultExport: a config file is read by its default export
export default groundcrew({ agents: [support, recall], people: { local: { roles: ["finance"] } }, ...(store && { store }) });
