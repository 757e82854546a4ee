"""OpenTelemetry spans to usage events.

```
 otlp_spans            as the Collector's Kafka exporter writes it: whole export requests, any
    │                  partition, protobuf or JSON
    │  splitting.py    decode; one record per span; stateless, at least once
    ▼
 marlin.spans.v1       internal, keyed by trace: all spans of a trace in one partition, in one order
    │  counting.py     which spans count: a function of this log alone, so that reading it again
    ▼                  comes to the same events with the same numbers
 marlin.events.v1      usage events, keyed by run; the worker drops the numbers it has seen
```

Needs the extra `otel`. Off unless `MARLIN_OTEL__ENABLED` says otherwise.
"""
