/** A real PostgreSQL, with a proxy in front of it for each worker: networks fail for one and not for another. */
import { setTimeout as sleep } from "node:timers/promises";
import { startPostgres } from "../groundcrew/test/support/postgres.ts";
import { TcpProxy } from "../groundcrew/test/support/proxy.ts";
import { type Fault, type Faults, workerFaults } from "./faults.ts";
import type { Ground } from "./ground.ts";
import { isInOwnNamespace } from "./namespace.ts";
import { mixed, Random } from "./random.ts";

const HOUR_MS = 3_600_000;

/** How wrong clocks are: right, a little off, an hour ahead, an hour behind. */
const SKEWS_MS = [0, 7_000, HOUR_MS, -HOUR_MS];

/** Two workers on one machine see that the other is gone. Workers of other machines have only its lease to go by. */
const HOSTS = ["machine-a", "machine-a", "machine-b", "machine-c"];

export async function openPostgresGround(workers: number, seed: number): Promise<Ground> {
  const server = await startPostgres();
  const url = await server.database();
  const proxies = await Promise.all(Array.from({ length: workers + 1 }, () => TcpProxy.before(server.port)));
  const proxyOf = (place: number | null) => proxies[place ?? workers] as TcpProxy;
  const skews = new Random(mixed(seed, -98)).shuffled(SKEWS_MS);

  const everybody = (kind: string, hurt: (force: number) => Promise<void>): Fault => {
    return async ({ log }, { force }) => {
      const end = log.begin(kind, null);
      await hurt(force);
      end();
    };
  };
  const groundFaults: Faults = {
    restart: everybody("restart", async (force) => {
      await server.stop(force < 0.5 ? "fast" : "immediate");
      await sleep(2_000 * force);
      await server.start();
    }),
    postmaster: everybody("postmaster", async (force) => {
      await server.kill();
      await sleep(2_000 * force);
      await server.start();
    }),
    /** Of one worker, or of all and the driver too. */
    cut: async ({ fleet, log }, { place, force }) => {
      const isForAll = force > 0.7;
      const worker = await fleet.at(place);
      const end = log.begin("cut", isForAll ? null : worker.pid);
      for (const proxy of isForAll ? proxies : [proxyOf(place)]) proxy.cut();
      end();
    },
    /** Of one place, past the lease; then everything that it had sent arrives, late. */
    "black-hole": async ({ fleet, log, leaseMs }, { place, force }) => {
      await fleet.at(place);
      // Of whoever has the place: a predecessor that is told to stop goes the same way to the store.
      const ends = fleet.living(place).map(({ pid }) => log.begin("black-hole", pid, true));
      proxyOf(place).hold();
      await sleep(leaseMs * (1.2 + 0.6 * force));
      proxyOf(place).resume();
      for (const [i, end] of ends.entries()) end(i === 0);
    },
  };
  return {
    urlOf: (place) => proxyOf(place).url(url),
    skewOf: (place) => skews[place % skews.length] ?? 0,
    hostOf: (place) => (isInOwnNamespace ? HOSTS[place % HOSTS.length] : undefined),
    workerFaults: workerFaults(false),
    groundFaults,
    notRun: {},
    async close() {
      await Promise.all(proxies.map((proxy) => proxy.close()));
      await server.remove();
    },
  };
}
