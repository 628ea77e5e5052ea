// A React hook for Tidegate, to copy. React 18 or newer.
import { useEffect, useState, useSyncExternalStore } from "react";
import type { Client, Publication, Room } from "tidegate";

/** The state of the connection, as it changes. */
export function useConnection(client: Client) {
  return useSyncExternalStore(
    (changed) => client.on("state", changed),
    () => client.state,
    () => "closed" as const,
  );
}

/** The last messages of a room, as long as the component is there. */
export function useRoom<T>(client: Client, name: string, keep = 100) {
  const [messages, setMessages] = useState<readonly Publication<T>[]>([]);
  const [room, setRoom] = useState<Room<T>>();

  useEffect(() => {
    const joined = client.room<T>(name);
    const ends = [
      joined.on("message", (message) => setMessages((before) => [...before, message].slice(-keep))),
      // Some are gone: what is shown would have a hole.
      joined.on("joined", ({ recovered }) => recovered || setMessages([])),
    ];
    joined.join({ history: keep }).catch(console.error);
    setMessages([]);
    setRoom(joined);
    return () => {
      for (const end of ends) end();
      joined.leave();
    };
  }, [client, name, keep]);

  return { messages, publish: (data: T) => room?.publish(data) };
}

export function Chat({ client }: { client: Client }) {
  const state = useConnection(client);
  const { messages, publish } = useRoom<{ text: string }>(client, "lobby");
  const [text, setText] = useState("");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        publish({ text })?.then(() => setText(""), console.error);
      }}
    >
      <p>{state}</p>
      <ul>
        {messages.map(({ offset, from, data }) => (
          <li key={offset}>
            {from}: {data.text}
          </li>
        ))}
      </ul>
      <input value={text} onChange={(event) => setText(event.target.value)} />
    </form>
  );
}
