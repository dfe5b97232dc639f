/** A process with a tool that spins in another one, whose number it says. */
import { type Call, withCall } from "../../src/call.ts";
import { isolate } from "../../src/tool/isolate.ts";
import type { Task } from "./isolated-code.ts";

const spin = isolate<Task, never>(new URL("./isolated-code.ts", import.meta.url));
const progress = (_: number, pid: string) => console.log(pid);
await withCall({ progress } as Call, () => spin({ do: "tell its process and spin" }, {}));
