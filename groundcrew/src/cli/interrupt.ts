/** Fires at the first Ctrl-C. The second one finds Node's own handling again and ends the process at once. */
export function untilInterrupted(): AbortSignal {
  const controller = new AbortController();
  process.once("SIGINT", () => controller.abort());
  return controller.signal;
}
