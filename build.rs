//! Compiles `proto/` without a `protoc`: the OTLP trace service, with a codec that leaves messages as raw bytes.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?).join("otlp");
    fs::create_dir_all(&out)?;
    println!("cargo:rerun-if-changed=proto");
    let files =
        protox::compile(["opentelemetry/proto/collector/trace/v1/trace_service.proto"], ["proto"])?;
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
