//! Compiles the `.proto` files without needing `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "proto/consensus.proto",
        "proto/metadata.proto",
        "proto/partition.proto",
        "proto/peer.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new().btree_map(["."]).bytes([".jangbu.peer"]).compile_fds(descriptors)?;
    Ok(())
}
