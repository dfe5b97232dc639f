/** Sets this process's clock, before anything else has looked at it: `CHAOS_SKEW_MS` is by how much it is wrong. */
const skewMs = Number(process.env["CHAOS_SKEW_MS"] ?? 0);

if (skewMs !== 0) {
  const RightDate = Date;
  class SkewedDate extends RightDate {
    constructor(...given: unknown[]) {
      super(...((given.length === 0 ? [RightDate.now() + skewMs] : given) as [number]));
    }
    static override now(): number {
      return RightDate.now() + skewMs;
    }
  }
  globalThis.Date = SkewedDate as DateConstructor;
}
