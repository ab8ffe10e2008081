//! Compiles `proto/` without a `protoc`: the OTLP trace service, with a codec that leaves messages as raw bytes, and the
//! heads of the journal's records, as plain messages.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    trace_service(&out("otlp")?)?;
    journal(&out("journal")?)
}

fn out(folder: &str) -> Result<PathBuf, Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?).join(folder);
    fs::create_dir_all(&out)?;
    Ok(out)
}

fn journal(out: &Path) -> Result<(), Box<dyn Error>> {
    let files = protox::compile(["tracestitch/journal/v1/journal.proto"], ["proto"])?;
    tonic_prost_build::configure().out_dir(out).bytes(".").compile_fds(files)?;
    Ok(())
}

fn trace_service(out: &Path) -> Result<(), Box<dyn Error>> {
    let files =
        protox::compile(["opentelemetry/proto/collector/trace/v1/trace_service.proto"], ["proto"])?;
    let mut bare = files.clone();
    // Reflection says what there is, not what it is for.
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out.join("trace_service.bin"), bare.encode_to_vec())?;
    tonic_prost_build::configure()
        .out_dir(out)
        .build_client(false)
        .codec_path("crate::wire::RawCodec")
        .extern_path(
            ".opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest",
            "::bytes::Bytes",
        )
        .extern_path(
            ".opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse",
            "::bytes::Bytes",
        )
        .extern_path(".opentelemetry.proto.trace.v1", "::opentelemetry_proto::tonic::trace::v1")
        .extern_path(".opentelemetry.proto.common.v1", "::opentelemetry_proto::tonic::common::v1")
        .extern_path(
            ".opentelemetry.proto.resource.v1",
            "::opentelemetry_proto::tonic::resource::v1",
        )
        .compile_fds(files)?;
    Ok(())
}
