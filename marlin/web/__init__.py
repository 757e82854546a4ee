"""HTTP: the ingest gateway, for runtimes that do not speak Kafka."""
