/** A row of a timeline. */
export interface Row {
  /** When it began; wall-clock milliseconds. */
  at: number;
  mark: Mark;
  /** The kind of thing: `model`, `tool`, `parked`. */
  label: string;
  text: string;
  /** How long the attempt took; undefined while it runs, and for what has no duration. */
  tookMs?: number;
  /** How it ended, when not simply well. */
  note?: string;
  /** What its failure was taken for, and what came of that; never shortened. */
  verdict?: string;
  /** The key of the step it is about. */
  step?: string;
  /** Named values below the row. */
  details: [name: string, value: unknown][];
  /** Whether nothing will be added to it. */
  done: boolean;
}

export type Mark = "·" | "✓" | "✗" | "?" | "↻" | "‖" | "▸";
