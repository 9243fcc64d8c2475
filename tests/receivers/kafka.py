"""A Kafka broker (the mock cluster of librdkafka) with one topic; prints what consumers read from it.

usage: kafka.py TOPIC
"""

import json
import sys

from confluent_kafka import Consumer, Producer, TopicPartition

topic = sys.argv[1]
# The cluster lives as long as this client does.
cluster = Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": 1})
broker = next(iter(cluster.list_topics(timeout=20).brokers.values()))
server = {"bootstrap.servers": f"{broker.host}:{broker.port}"}
# A producer that asks for a topic creates it, with four partitions.
Producer(server).list_topics(topic, timeout=20)
consumer = Consumer({**server, "group.id": "test", "auto.offset.reset": "earliest"})
partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
print(json.dumps({"port": broker.port}), flush=True)
while True:
    message = consumer.poll(1)
    if message is None or message.error():
        continue
    print(
        json.dumps(
            {
                "partition": message.partition(),
                "key": message.key() and message.key().decode(),
                "headers": {name: value.decode() for name, value in message.headers() or []},
                "timestamp": message.timestamp()[1],
                "value": message.value().decode(),
            }
        ),
        flush=True,
    )
