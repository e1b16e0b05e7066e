//! Compiles `proto/raft.proto` without an installed `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/raft.proto");
    let files = protox::compile(["raft.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::raft::wire_codec::PeerCodec")
        .compile_fds(files)?;
    Ok(())
}
