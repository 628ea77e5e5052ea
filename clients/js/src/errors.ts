/** Why a request failed or a client gave up. */
export class TidegateError extends Error {
  /**
   * A code of the server's table of errors, or one of the client's own: `timeout`, `aborted`, `closed`,
   * `connection_lost` (the request may have been carried out), `queue_full`, `dropped`, `too_big`,
   * `bad_message`, `token_failed`, `unsupported`.
   */
  readonly code: string;
  /** Seconds after which the same may succeed, where the server said so. */
  readonly retryAfter: number | undefined;

  constructor(code: string, message: string, retryAfter?: number) {
    super(message);
    this.name = "TidegateError";
    this.code = code;
    this.retryAfter = retryAfter;
  }
}
