/** What was done to whom, and when: by the driver's clock, which nobody touches. */

/** How long after a fault what it did may still show: a process that was stopped sends what it was about to send. */
const AFTERMATH_MS = 2_000;

/** A process that was not let run, and a lease that was lost. */
type Natural = "starved" | "lapse";

interface Fault {
  kind: string;
  /** Null: everybody. */
  pid: number | null;
  from: number;
  to: number;
  /** The process lives and does nothing, and may yet do what it was about to do. */
  isStandstill: boolean;
}

export class FaultLog {
  readonly faults: Fault[] = [];
  readonly counts: Record<string, number> = {};

  count(kind: string): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
  }

  /** @returns a function that says that it is over, and whether it was a fault at all: one that hurt nobody does not count. */
  begin(kind: string, pid: number | null, isStandstill = false): (isReal?: boolean) => void {
    const fault: Fault = { kind, pid, from: performance.now(), to: Number.POSITIVE_INFINITY, isStandstill };
    this.faults.push(fault);
    return (isReal = true) => {
      fault.to = performance.now();
      if (isReal) this.count(kind);
    };
  }

  /** One that is over at once: the process is gone. */
  strike(kind: string, pid: number): void {
    this.begin(kind, pid)();
  }

  /** One that nobody made, and that is noticed only when it is over: a machine that has more to do than it can. */
  notice(kind: Natural, pid: number, ms: number): void {
    const to = performance.now();
    if (!this.hit(pid, to - ms, to)) this.count(kind); // otherwise it has another name already
    this.faults.push({ kind, pid, from: to - ms, to, isStandstill: true });
  }

  /** Whether a fault hit this process, or everybody, between two moments. */
  hit(pid: number, from: number, to: number): boolean {
    return this.faults.some((fault) => concerns(fault, pid) && fault.from <= to && fault.to + AFTERMATH_MS >= from);
  }

  /** Whether this process, or any, stands still or did so a moment ago. */
  mayWake(pid: number | null): boolean {
    const now = performance.now();
    return this.faults.some((fault) => fault.isStandstill && (pid === null || concerns(fault, pid)) && fault.to + AFTERMATH_MS >= now);
  }
}

function concerns(fault: Fault, pid: number): boolean {
  return fault.pid === null || fault.pid === pid;
}
