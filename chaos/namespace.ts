/**
 * Some faults need a machine of one's own: a disk that can be full, hosts with different names. Linux lends a process the
 * pretence of one, and takes it back with everything in it when the process ends, however it ends.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";

const VARIABLE = "CHAOS_NAMESPACE";

export const isInOwnNamespace = process.env[VARIABLE] !== undefined;

/** A command that runs `command` on a machine of that name, as far as it can tell. */
export function onHost(host: string, command: readonly string[]): string[] {
  return ["unshare", "--uts", "sh", "-c", 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"', host, ...command];
}

/**
 * Runs this command once more, in namespaces of its own.
 * @param asAnybody whether it does to be root only in appearance
 * @returns its exit code; undefined where that cannot be had, or has been done
 */
export async function inOwnNamespace(asAnybody: boolean): Promise<number | undefined> {
  if (isInOwnNamespace) return undefined;
  const own = ["--mount", "--uts"];
  const ways = asAnybody ? [own, ["--user", "--map-root-user", ...own]] : [own];
  const way = ways.find((flags) => spawnSync("unshare", [...flags, "true"]).status === 0);
  if (!way) return undefined;
  const env = { ...process.env, [VARIABLE]: "own" };
  const child = spawn("unshare", [...way, process.execPath, ...process.argv.slice(1)], { env, stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
  const [code] = (await once(child, "exit")) as [number | null];
  return code ?? 1;
}
