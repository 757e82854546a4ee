from aiokafka.consumer import fetcher as fetcher
