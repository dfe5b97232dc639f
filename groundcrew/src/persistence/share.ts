/** Who goes first: how a claim is shared among tenants, and how quotas bound it. Both stores choose by this. */
import type { Quota } from "./store.ts";

/** A ready run, as a look found it. */
export interface Candidate {
  agent: string;
  tenant: string;
  priority: number;
  /** Wall-clock milliseconds. */
  dueAt: number;
  /** Whether nobody has worked on it yet: only then it counts against a rate. */
  isNew: boolean;
}

/** What an agent, or a tenant, may still take up. */
export interface Room {
  /** Places at work. */
  places: number;
  /** New runs, by its rate. */
  starts: number;
}

/** What a quota belongs to. */
export type Kind = "agent" | "tenant";

/** As the tables hold it: under whom a bucket is kept. */
export function scopeOf(kind: Kind, name: string): string {
  return `${kind} ${name}`;
}

type RoomOf = (of: Kind, name: string) => Room | undefined;

/**
 * Chooses up to `limit`: tenants take turns, in the order in which they come first among the candidates; of one tenant the lower
 * priority number goes first, then what is due longest. What finds no room is passed over, and holds up nothing behind it.
 * @param roomOf the same object each time for the same agent or tenant: it is used up; undefined for one without a quota.
 */
export function share<T extends Candidate>(candidates: readonly T[], limit: number, roomOf: RoomOf = () => undefined): T[] {
  const queues = [...Map.groupBy(candidates, ({ tenant }) => tenant).values()].map((queue) =>
    queue.toSorted((a, b) => a.priority - b.priority || a.dueAt - b.dueAt),
  );
  const chosen: T[] = [];
  while (chosen.length < limit) {
    const before = chosen.length;
    for (const queue of queues) {
      if (chosen.length >= limit) break;
      const next = queue.findIndex((one) => fits(one, roomOf));
      if (next === -1) continue;
      const [taken] = queue.splice(next, 1) as [T];
      use(taken, roomOf);
      chosen.push(taken);
    }
    if (chosen.length === before) break;
  }
  return chosen;
}

function roomsOf({ agent, tenant }: Pick<Candidate, "agent" | "tenant">, roomOf: RoomOf): Room[] {
  return [roomOf("agent", agent), roomOf("tenant", tenant)].filter((room) => room !== undefined);
}

function fits(candidate: Candidate, roomOf: RoomOf): boolean {
  return roomsOf(candidate, roomOf).every(({ places, starts }) => places >= 1 && (starts >= 1 || !candidate.isNew));
}

/** One of them was taken up. */
export function use(candidate: Pick<Candidate, "agent" | "tenant" | "isNew">, roomOf: RoomOf): void {
  for (const room of roomsOf(candidate, roomOf)) {
    room.places--;
    if (candidate.isNew) room.starts--;
  }
}

/**
 * How many places of a claim are kept for runs that are only to be ended and go past the quotas: half, so that neither holds up
 * the other for longer than a claim.
 * @param isOdd another each time: of an odd number they get the larger half every second time.
 */
export function keptForLate(late: number, limit: number, isOdd: boolean): number {
  return Math.min(late, Math.floor((limit + Number(isOdd)) / 2));
}

/** What is left of a rate: `tokens` new runs at the time `at`. */
export interface Bucket {
  tokens: number;
  at: number;
}

/** The bucket as it is now: full at first, and filled up evenly. A clock that jumps back fills nothing. */
export function refill(bucket: Bucket | undefined, { runs, perMs }: NonNullable<Quota["rate"]>, now: number): Bucket {
  if (!bucket) return { tokens: runs, at: now };
  const gained = (Math.max(0, now - bucket.at) * runs) / perMs;
  return { tokens: Math.min(runs, bucket.tokens + gained), at: now };
}

/** What a quota leaves room for. @param atWork runs at work now. */
export function roomFor(quota: Quota, atWork: number, bucket: Bucket | undefined): Room {
  return {
    places: Math.max(0, (quota.concurrency ?? Number.POSITIVE_INFINITY) - atWork),
    starts: bucket ? bucket.tokens : Number.POSITIVE_INFINITY,
  };
}
