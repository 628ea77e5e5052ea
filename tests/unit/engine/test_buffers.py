"""One count of what all connections keep, and the ends of those that keep the most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.live import Client, Live, masked, run, told, until
from tests.unit.engine.test_outbox import Peer
from tidegate.core.codes import BUFFERS_FULL
from tidegate.engine.buffers import Buffers
from tidegate.engine.outbox import Outbox, RoomFrames
from tidegate.wire.frames import PONG, TEXT, encode
from tidegate.wire.reader import LIGHT_BYTES

MIB = 1 << 20


class Holder:
    """Holds so many bytes, and notes that it was ended."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name

    @property
    def kept(self) -> float:
        return self.world.buffers.held.get(self, 0)

    def relieve(self) -> None:
        self.world.ended.append(self.name)
        self.world.buffers.hold(self, 0)


class World:
    """Buffers with a bound of 160 bytes, 150 of which are enough after an end."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []
        self.told: list[int] = []
        self.ended: list[str] = []
        self.buffers = Buffers(160, self.work.append, self.told.append)

    def hold(self, name: str, size: int) -> Holder:
        holder = Holder(self, name)
        self.buffers.hold(holder, size)
        return holder

    def run(self) -> None:
        while self.work:
            self.work.pop(0)()


def test_nobody_is_ended_up_to_the_bound() -> None:
    world = World()
    world.hold("a", 100)
    world.hold("b", 60)
    assert world.buffers.bytes == 160
    assert not world.work


def test_the_largest_are_ended_until_there_is_some_room() -> None:
    world = World()
    for name, size in (("a", 40), ("b", 60), ("c", 20), ("d", 50), ("e", 1)):
        world.hold(name, size)
    assert len(world.work) == 1
    assert world.ended == []  # not at once: this may be in the middle of anything
    world.run()
    assert world.ended == ["b"]
    assert world.told == [1]
    assert world.buffers.bytes == 111


def test_many_are_ended_in_several_steps() -> None:
    world = World()
    for number in range(1000):
        world.hold(str(number), 1)
    world.run()
    assert world.buffers.bytes == 150
    assert sum(world.told) == 850
    assert len(world.told) > 1


def test_what_shrinks_before_the_look_ends_nobody() -> None:
    world = World()
    holder = world.hold("a", 200)
    world.buffers.hold(holder, 10)
    world.run()
    assert world.ended == []
    assert world.buffers.bytes == 10
    world.hold("b", 200)
    world.run()
    assert world.ended == ["b"]


def test_a_lower_bound_ends_those_above_it() -> None:
    world = World()
    world.hold("a", 100)
    world.hold("b", 50)
    world.buffers.apply(80)
    world.run()
    assert world.ended == ["a"]


def test_bytes_that_nobody_can_give_back_are_not_asked_for_again() -> None:
    world = World()
    world.buffers.count(1000)
    world.hold("a", 0)
    world.run()
    assert world.ended == []


# Outboxes.


def test_a_frame_of_a_room_is_counted_once_for_all_who_keep_it() -> None:
    world = World()
    frame = RoomFrames.of([b"x" * 100])
    boxes = [
        Outbox(MIB, lambda: None, "disconnect", Counter(), world.buffers, lambda _: None)
        for _ in range(3)
    ]
    assert world.buffers.bytes == 0  # nobody keeps it yet
    for box in boxes:
        box.begin(b"0123456789", 4)
        box.send(frame)
    del frame
    assert world.buffers.bytes == 3 * 6 + 100
    assert [box.own for box in boxes] == [6, 6, 6]
    boxes[0].flush(Peer())
    boxes[1].discard()
    assert world.buffers.bytes == 6 + 100
    boxes[2].keep_begun_frame()
    assert world.buffers.bytes == 6


_SAID = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 700)),
    st.tuples(st.just("room"), st.integers(0, 700)),
    st.tuples(st.just("urge"), st.integers(0, 20)),
    st.tuples(st.just("flush"), st.one_of(st.none(), st.integers(0, 2000))),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("begun"), st.just(0)),
)


@given(
    st.sampled_from(["disconnect", "drop_oldest", "drop_newest"]),
    st.booleans(),
    st.lists(_SAID, max_size=30),
)
@settings(max_examples=150)
def test_whatever_happens_to_an_outbox_all_of_it_is_counted(
    policy: str, of_room: bool, said: list[tuple[str, int | None]]
) -> None:
    buffers = Buffers(MIB, lambda work: None, lambda ended: None)
    box = Outbox(3000, lambda: None, policy, Counter(), buffers, lambda _: None)
    box.begin(RoomFrames.of([b"b" * 90]) if of_room else b"b" * 90, 30)
    for do, size in said:
        if do == "flush":
            box.flush(Peer(size, None))
        elif do == "look":
            box.look()
        elif do == "begun":
            box.keep_begun_frame()
        elif do == "urge":
            box.urge(encode(PONG, b"p" * (size or 0)))
        else:
            data = encode(TEXT, b"x" * (size or 0))
            box.send(RoomFrames.of([data]) if do == "room" else data)
        assert 0 <= box.own <= box.size
        # The sent part of a room's frame is kept with the rest of it.
        assert box.size <= buffers.bytes <= box.size + 90 + 720
    if box.flush(Peer()):
        assert box.own == box.size == 0
    box.discard()
    assert buffers.bytes == 0


# Connections. That nothing stays counted when all have left is checked by `Live` itself.


async def half(client: Client, size: int) -> None:
    """Send the first half of a message of `size` bytes."""
    await client.send(masked("x" * size)[: size // 2])


def limits(**more: dict[str, object]) -> dict[str, dict[str, object]]:
    return {
        "messages": {"per_second": 0, "max_size": MIB // 4, "fragment_timeout": 60.0},
        "buffers": {"max_bytes": MIB},
        **more,
    }


def test_unfinished_messages_end_the_connections_that_hold_the_most() -> None:
    async def main() -> None:
        async with Live(limits()) as live:
            small, mine = await live.open()
            await half(small, 2000)
            sizes = [60_000 + 5_000 * number for number in range(14)]
            pairs = [await live.open() for _ in sizes]
            for (client, _), size in zip(pairs, sizes, strict=True):
                await half(client, 2 * size)
            await until(lambda: not pairs[-1][1].open)
            buffers = live.node.engine.shared.buffers
            await until(lambda: buffers.bytes <= MIB)
            ended = [connection for _, connection in pairs if not connection.open]
            assert 0 < len(ended) < len(pairs)
            assert mine.open
            assert await pairs[-1][0].closed() == told(BUFFERS_FULL)
            pairs[-1][0].leave()
            await until(lambda: live.node.stats.disconnected["buffers_full"])
            assert pairs[0][1].open  # it had the least of these

    run(main())


def test_a_message_that_waits_for_its_turn_is_counted() -> None:
    async def main() -> None:
        async with Live(limits()) as live:
            client, connection = await live.open()
            buffers = live.node.engine.shared.buffers
            data = masked("x" * 2 * LIGHT_BYTES)
            await client.send(data[:LIGHT_BYTES])
            await until(lambda: buffers.bytes > LIGHT_BYTES // 2)
            assert connection.kept == buffers.bytes
            await client.send(data[LIGHT_BYTES:])
            await until(lambda: live.recorder.messages)
            await until(lambda: not buffers.bytes)

    run(main())


def test_outboxes_end_the_connections_that_hold_the_most() -> None:
    async def main() -> None:
        settings = limits(outbox={"max_bytes": 10 * MIB, "kernel_bytes": 4096})
        async with Live(settings) as live:
            pairs = [await live.open(slow=True) for _ in range(3)]
            connections = [connection for _, connection in pairs]
            for connection, size in zip(connections, (200, 300, 700), strict=True):
                for _ in range(size):
                    connection.send("x" * 1020)
            await until(lambda: not connections[2].open)
            assert [connection.open for connection in connections] == [True, True, False]

    run(main())


@pytest.mark.parametrize("size", [50_000, 900_000])
def test_one_that_closes_is_cut_off_when_it_holds_the_most(size: int) -> None:
    async def main() -> None:
        settings = limits(outbox={"max_bytes": 10 * MIB, "kernel_bytes": 4096})
        async with Live(settings) as live:
            _, connection = await live.open(slow=True)
            connection.send("x" * size)
            connection.send("y" * 500_000)
            connection.close()
            live.node.engine.shared.buffers.apply(300_000)
            await live.ended(connection)
            assert connection.closed

    run(main())
