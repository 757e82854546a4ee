from typing import NamedTuple

from aiokafka import ConsumerRecord as ConsumerRecord
from aiokafka import TopicPartition as TopicPartition

class OffsetAndMetadata(NamedTuple):
    offset: int
    metadata: str

class RecordMetadata(NamedTuple):
    topic: str
    partition: int
    topic_partition: TopicPartition
    offset: int
    timestamp: int | None
    timestamp_type: int
    log_start_offset: int | None
