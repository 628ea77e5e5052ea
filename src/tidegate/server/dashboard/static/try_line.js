// A line to the server that can be cut as a network does it: neither side is told.

// Returns the class to connect with, and what can be done to the connections made with it.
export function line() {
  const sockets = new Set(); // of the browser, those that were cut too: the server still has them
  let up = true;
  let current = null;

  class Socket {
    onmessage = null;
    onclose = null;
    onerror = null;
    #socket = null;

    constructor(url, protocols) {
      current = this;
      if (!up) {
        setTimeout(() => this.lose());
        return;
      }
      const socket = this.#socket = new WebSocket(url, protocols);
      const before = [...sockets];
      sockets.add(socket);
      socket.onmessage = (event) => {
        for (const old of before.splice(0)) old.close();
        if (current === this) this.onmessage?.(event);
      };
      socket.onerror = (event) => { if (current === this) this.onerror?.(event); };
      socket.onclose = (event) => {
        sockets.delete(socket);
        if (current === this) this.onclose?.(event);
      };
    }

    set binaryType(kind) { if (this.#socket) this.#socket.binaryType = kind; }

    get bufferedAmount() { return this.#socket?.bufferedAmount ?? 0; }

    send(data) { if (current === this) this.#socket?.send(data); }

    close(code, reason) { this.#socket?.close(code, reason); }

    // The connection is over, as far as this side can see.
    lose() {
      if (current !== this) return;
      current = null;
      this.onclose?.({ code: 1006, reason: "" });
    }
  }

  return {
    Socket,
    get up() { return up; },
    // Cut what is there; the next attempt gets through.
    cut() { current?.lose(); },
    // Without network no attempt gets through.
    set(works) {
      up = works;
      if (!up) current?.lose();
    },
    // For good: the server is told.
    close() { for (const socket of sockets) socket.close(1000); },
  };
}
