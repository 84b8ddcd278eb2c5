//! Compiles the `.proto` files without needing `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "proto/consensus.proto",
        "proto/get.proto",
        "proto/metadata.proto",
        "proto/partition.proto",
        "proto/peer.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new()
        .btree_map(["."])
        .bytes([".jangbu.peer", ".jangbu.get"])
        .compile_fds(descriptors)?;
    Ok(())
}
