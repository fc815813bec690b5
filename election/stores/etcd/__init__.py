"""The store in etcd, version 3.4 or newer; for others: `store.EtcdStore`, `access`."""
