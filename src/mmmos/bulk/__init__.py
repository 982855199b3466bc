"""Many clips by many workers: planned in shards, published whole, gone on with by the same command."""
