/** A place in a room's history. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
}

/** What the client may do, as `connected` and `system` say. */
export interface Settings {
  readonly pingInterval: number;
  readonly maxMessageSize: number;
  readonly messagesPerSecond: number;
  readonly broadcast: boolean;
}

/** Any message of the server. Unknown keys may come. */
export interface Message {
  readonly type: string;
  readonly id?: number | string;
  readonly [key: string]: unknown;
}

export interface Connected extends Message {
  readonly connectionId: string;
  readonly userId: string | null;
  readonly settings: Settings;
  readonly degraded: boolean;
  readonly utilization: number;
  readonly session?: string;
  readonly sessionTtl?: number;
  /** Whether this is the connection from before, with its rooms. */
  readonly resumed?: boolean;
  /** With `resumed`: whether all direct messages follow that were missed. */
  readonly recovered?: boolean;
  readonly rooms?: readonly string[];
  /** Sent back with the next connection as the query parameter `route`. */
  readonly route?: string;
}

export interface QueueStatus extends Message {
  /** From 1, the next to be admitted. */
  readonly position: number;
  readonly totalInQueue: number;
  /** Seconds since it began to wait. */
  readonly waitTime: number;
  /** Seconds left, or null while unknown. */
  readonly estimatedWaitRemaining: number | null;
}

/** The server is in another zone, and what the client may do has changed. */
export interface System extends Message {
  readonly zone: "normal" | "warning" | "critical" | "emergency";
  readonly degraded: boolean;
  readonly settings: Settings;
}

export interface Shutdown extends Message {
  readonly reason: string;
  /** Seconds until this client's own slot to come back in. */
  readonly reconnectDelay: number;
  /** Where to, in place of what `connected` said; an empty one is for anywhere. */
  readonly route?: string;
}

/** A message to a room. */
export interface Publication<T = unknown> {
  readonly room: string;
  readonly data: T;
  readonly from: string | null;
  readonly connectionId: string | null;
  /** In rooms with history: from 1, without holes. */
  readonly offset?: number;
  /** Unix seconds, where the room's rule asks for it. */
  readonly timestamp?: number;
}

export interface Direct<T = unknown> {
  readonly data: T;
  readonly from: string | null;
  readonly connectionId?: string | null;
  readonly seq?: number;
}

export interface Broadcast<T = unknown> {
  readonly data: T;
  readonly from: string | null;
}

/** A user in a room. */
export interface Member {
  readonly user: string;
  /** How many connections it has there; 0 while one that was lost may come back. */
  readonly devices: number;
  readonly info?: unknown;
}

export interface PresenceState extends Message {
  readonly room: string;
  readonly count: number;
  /** Absent where there are too many to name them. */
  readonly users?: readonly Member[];
}

export interface HistoryPage<T = unknown> extends Message {
  readonly room: string;
  readonly messages: readonly Omit<Publication<T>, "room">[];
  readonly epoch: string;
  readonly offset: number;
  /** In answer to `since`: whether the first message is the one after it. */
  readonly recovered?: boolean;
}

/** A message was carried out. */
export interface Ack extends Message {
  readonly members?: number;
  readonly delivered?: number;
  readonly epoch?: string;
  readonly offset?: number;
  readonly recovered?: boolean;
}
