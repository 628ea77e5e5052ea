"""The topic that carries everything: made where it is not there, and left as it is where it is.

Nodes read from its end. What it keeps is for those who were away for a moment, so it keeps little.
"""

from __future__ import annotations

from typing import Any, Final

from tidegate.errors import BackplaneError

__all__ = ["make_topic"]

_PARTITIONS: Final = 8
_RETENTION_MS: Final = 10 * 60 * 1000
_SEGMENT_MS: Final = 2 * 60 * 1000  # only whole segments are deleted
_EXISTS: Final = 36
_NOT_ALLOWED: Final = (29, 31)  # to make this topic, or any


async def make_topic(options: dict[str, Any], name: str, replicas: int) -> bool:
    """Make the topic where it is not there; whether it was not.

    Args:
        options: how to connect.
        name: of the topic.
        replicas: on how many servers a new one is kept.

    Raises:
        BackplaneError: it is not there, and cannot be made.
        KafkaError: the servers cannot be reached.
    """
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    config = {
        "cleanup.policy": "delete",
        "retention.ms": str(_RETENTION_MS),
        "segment.ms": str(_SEGMENT_MS),
        # What is acknowledged survives the end of a server, and the end of one stops nobody.
        "min.insync.replicas": str((replicas + 1) // 2),
        "message.timestamp.type": "LogAppendTime",
    }
    topic = NewTopic(name, _PARTITIONS, replicas, topic_configs=config)
    admin = AIOKafkaAdminClient(**options)
    try:
        await admin.start()
        answer = await admin.create_topics([topic])
        _, code, said = answer.topic_errors[0][:3]
        if code in _NOT_ALLOWED:
            found = await admin.describe_topics([name])
            if found and found[0]["error_code"] == 0:
                return False
        if code not in (0, _EXISTS):
            raise BackplaneError(
                f"backplane.url: the topic {name} cannot be made: {said or _meaning(code)}"
            )
    finally:
        await admin.close()
    return bool(code == 0)


def _meaning(code: int) -> str:
    from aiokafka.errors import for_code

    return str(for_code(code).description or for_code(code).__name__)
