/** Which files the config file is made of: `groundcrew dev` starts again when one of them changes. */
import { registerHooks } from "node:module";
import { fileURLToPath } from "node:url";

/** Set for the process that `groundcrew dev` starts. */
export const DEV_VARIABLE = "GROUNDCREW_DEV";

/** What the serving process tells `groundcrew dev`. */
export type DevMessage = { module: string } | { url: string /** A command to try. */; sample: string } | { isPortTaken: true };

/** Tells `tell` each file of the user's that is loaded from now on, also when loading it fails. */
export function watchModules(tell: (message: DevMessage) => void): void {
  registerHooks({
    load(url, context, next) {
      if (url.startsWith("file:") && !url.includes("/node_modules/")) tell({ module: fileURLToPath(url) });
      return next(url, context);
    },
  });
}
