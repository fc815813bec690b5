"""The store in a directory of one host; for others: `store.FileStore`."""
