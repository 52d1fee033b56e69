//! Stubs from schema/etcd, without protoc.

fn main() {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../schema/etcd");
    println!("cargo::rerun-if-changed={schema}");
    let files = protox::compile(["rpc.proto"], [schema]).expect("schema/etcd compiles");
    tonic_prost_build::configure().build_server(false).compile_fds(files).expect("the stubs can be written");
}
