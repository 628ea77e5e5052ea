// A Vue composable for Tidegate, to copy. Vue 3.
import { onScopeDispose, readonly, ref, shallowRef } from "vue";
import type { Client, Publication } from "tidegate";

/** The state of the connection, as it changes. */
export function useConnection(client: Client) {
  const state = ref(client.state);
  onScopeDispose(client.on("state", (change) => (state.value = change.state)));
  return readonly(state);
}

/** The last messages of a room, as long as the component is there. */
export function useRoom<T>(client: Client, name: string, keep = 100) {
  const messages = shallowRef<readonly Publication<T>[]>([]);
  const room = client.room<T>(name);
  const ends = [
    room.on("message", (message) => (messages.value = [...messages.value, message].slice(-keep))),
    // Some are gone: what is shown would have a hole.
    room.on("joined", ({ recovered }) => recovered || (messages.value = [])),
  ];
  room.join({ history: keep }).catch(console.error);
  onScopeDispose(() => {
    for (const end of ends) end();
    room.leave();
  });
  return { messages, publish: (data: T) => room.publish(data) };
}
