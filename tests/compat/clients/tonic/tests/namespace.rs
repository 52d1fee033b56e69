// The tests of the crate etcd-client, from its package: tests/compat/suites.py lays them there and runs them.
include!(concat!(env!("ETCD_CLIENT_TESTS"), "/namespace.rs"));
