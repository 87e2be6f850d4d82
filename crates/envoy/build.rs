//! Compiles Envoy's xDS v3 protobufs, and those of `proto/`.
//!
//! Envoy's `.proto` files are not in this repository: the package `envoy-types` carries all of them, and this script
//! finds it through `cargo metadata`. Types are generated with ordered maps, so that equal messages encode to equal bytes.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The messages that the control plane makes and the proxy reads; what they refer to comes with them.
const ROOTS: &[&str] = &[
    "envoy/admin/v3/certs.proto",
    "envoy/admin/v3/clusters.proto",
    "envoy/admin/v3/config_dump.proto",
    "envoy/admin/v3/listeners.proto",
    "envoy/admin/v3/server_info.proto",
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/trace/v3/opentelemetry.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/access_loggers/stream/v3/stream.proto",
    "envoy/extensions/filters/common/set_filter_state/v3/value.proto",
    "envoy/extensions/filters/http/cors/v3/cors.proto",
    "envoy/extensions/filters/http/ext_authz/v3/ext_authz.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
    "envoy/extensions/filters/http/jwt_authn/v3/config.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/http/set_filter_state/v3/set_filter_state.proto",
    "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
    "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/rbac/v3/rbac.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto",
    "envoy/extensions/load_balancing_policies/maglev/v3/maglev.proto",
    "envoy/extensions/load_balancing_policies/random/v3/random.proto",
    "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.proto",
    "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.proto",
    "envoy/extensions/path/match/uri_template/v3/uri_template_match.proto",
    "envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite.proto",
    "envoy/extensions/request_id/uuid/v3/uuid.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "envoy/service/auth/v3/external_auth.proto",
    "envoy/service/discovery/v3/ads.proto",
    "envoy/service/secret/v3/sds.proto",
    "grpc/health/v1/health.proto",
    "istio/v1/auth/certificate.proto",
];

/// Messages that only users write, to be put into configurations of their proxies: they are described, but get no types.
const DESCRIBED: &[&str] = &[
    "envoy/extensions/access_loggers/grpc/v3/als.proto",
    "envoy/extensions/access_loggers/open_telemetry/v3/logs_service.proto",
    "envoy/extensions/clusters/aggregate/v3/cluster.proto",
    "envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster.proto",
    "envoy/extensions/compression/brotli/compressor/v3/brotli.proto",
    "envoy/extensions/compression/gzip/compressor/v3/gzip.proto",
    "envoy/extensions/filters/http/adaptive_concurrency/v3/adaptive_concurrency.proto",
    "envoy/extensions/filters/http/admission_control/v3/admission_control.proto",
    "envoy/extensions/filters/http/bandwidth_limit/v3/bandwidth_limit.proto",
    "envoy/extensions/filters/http/basic_auth/v3/basic_auth.proto",
    "envoy/extensions/filters/http/buffer/v3/buffer.proto",
    "envoy/extensions/filters/http/compressor/v3/compressor.proto",
    "envoy/extensions/filters/http/csrf/v3/csrf.proto",
    "envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy.proto",
    "envoy/extensions/filters/http/ext_proc/v3/ext_proc.proto",
    "envoy/extensions/filters/http/grpc_http1_bridge/v3/config.proto",
    "envoy/extensions/filters/http/grpc_json_transcoder/v3/transcoder.proto",
    "envoy/extensions/filters/http/grpc_web/v3/grpc_web.proto",
    "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/filters/http/header_to_metadata/v3/header_to_metadata.proto",
    "envoy/extensions/filters/http/health_check/v3/health_check.proto",
    "envoy/extensions/filters/http/ip_tagging/v3/ip_tagging.proto",
    "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/http/lua/v3/lua.proto",
    "envoy/extensions/filters/http/oauth2/v3/oauth.proto",
    "envoy/extensions/filters/http/on_demand/v3/on_demand.proto",
    "envoy/extensions/filters/http/original_src/v3/original_src.proto",
    "envoy/extensions/filters/http/ratelimit/v3/rate_limit.proto",
    "envoy/extensions/filters/http/set_metadata/v3/set_metadata.proto",
    "envoy/extensions/filters/http/stateful_session/v3/stateful_session.proto",
    "envoy/extensions/filters/http/tap/v3/tap.proto",
    "envoy/extensions/filters/http/wasm/v3/wasm.proto",
    "envoy/extensions/filters/listener/original_src/v3/original_src.proto",
    "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
    "envoy/extensions/filters/network/connection_limit/v3/connection_limit.proto",
    "envoy/extensions/filters/network/direct_response/v3/config.proto",
    "envoy/extensions/filters/network/echo/v3/echo.proto",
    "envoy/extensions/filters/network/ext_authz/v3/ext_authz.proto",
    "envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/network/mongo_proxy/v3/mongo_proxy.proto",
    "envoy/extensions/filters/network/ratelimit/v3/rate_limit.proto",
    "envoy/extensions/filters/network/redis_proxy/v3/redis_proxy.proto",
    "envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.proto",
    "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.proto",
    "envoy/extensions/filters/network/wasm/v3/wasm.proto",
    "envoy/extensions/http/stateful_session/cookie/v3/cookie.proto",
    "envoy/extensions/http/stateful_session/header/v3/header.proto",
    "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto",
];

/// The tree of those that are in this repository.
const OWN: &str = "proto";

/// The trees inside the package; an import is relative to one of them.
const TREES: &[&str] = &[
    "cel-spec/proto",
    "client_model",
    "data-plane-api",
    "googleapis",
    "opentelemetry-proto",
    "protoc-gen-validate",
    "ratelimit/api",
    "xds",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-changed={OWN}");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let sources = out.join("proto");
    unpack(&envoy_types()?, &sources)?;
    let own = Path::new(OWN);
    let descriptors =
        protox::Compiler::new([&*sources, own])?.include_imports(true).open_files(ROOTS)?.file_descriptor_set();
    let described: Vec<&str> = ROOTS.iter().chain(DESCRIBED).copied().collect();
    let all =
        protox::Compiler::new([&*sources, own])?.include_imports(true).open_files(described)?.file_descriptor_set();
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&all))?;
    tonic_prost_build::configure()
        .btree_map(".")
        .include_file("envoy.rs")
        .compile_well_known_types(false)
        .compile_fds(descriptors)?;
    Ok(())
}

/// The directory of the package that carries the `.proto` files.
fn envoy_types() -> Result<PathBuf, Box<dyn Error>> {
    let metadata = cargo_metadata::MetadataCommand::new().exec()?;
    let package = metadata.packages.iter().find(|p| p.name.as_str() == "envoy-types");
    let manifest = &package.ok_or("the package envoy-types is not among the dependencies")?.manifest_path;
    Ok(manifest.parent().ok_or("a manifest has a directory")?.as_std_path().join("proto"))
}

/// Copies every tree of `.proto` files into one, with the names of types written out in full: protoc resolves
/// `core.v3.Node` inside `envoy.config.listener.v3` by looking outward, which protox 0.10 does not always do.
fn unpack(packages: &Path, target: &Path) -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    for tree in TREES {
        let root = packages.join(tree);
        collect(&root, &root, &mut files)?;
    }
    let names: BTreeSet<String> = files.iter().flat_map(|(_, text)| declared(text)).collect();
    for (path, text) in &files {
        let path = target.join(path);
        fs::create_dir_all(path.parent().ok_or("a file has a directory")?)?;
        fs::write(path, qualified(text, &names))?;
    }
    Ok(())
}

/// Every `.proto` file below `dir`, with its path relative to `root`.
fn collect(root: &Path, dir: &Path, files: &mut Vec<(PathBuf, String)>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push((path.strip_prefix(root)?.to_owned(), fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

fn package(text: &str) -> &str {
    let line = text.lines().find_map(|l| l.strip_prefix("package "));
    line.and_then(|l| l.strip_suffix(';')).unwrap_or_default().trim()
}

/// The full names of the messages and enums that a file declares.
fn declared(text: &str) -> Vec<String> {
    let (mut names, mut scopes) = (Vec::new(), Vec::new());
    for line in text.lines().map(without_comment) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let opened = match words.as_slice() {
            ["message" | "enum", name, ..] => Some((*name).trim_end_matches('{').to_owned()),
            _ => None,
        };
        if let Some(name) = &opened {
            let outer = scopes.iter().flatten().cloned().chain([name.clone()]);
            names.push([package(text).to_owned()].into_iter().chain(outer).collect::<Vec<_>>().join("."));
        }
        let mut first = opened;
        for c in line.chars() {
            match c {
                '{' => scopes.push(first.take()),
                '}' => drop(scopes.pop()),
                _ => {}
            }
        }
    }
    names
}

fn without_comment(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// `text` with each dotted name of a known type written from the root.
fn qualified(text: &str, names: &BTreeSet<String>) -> String {
    let dotted = Regex::new(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+").expect("the pattern is valid");
    let scope: Vec<&str> = package(text).split('.').collect();
    let resolve = |name: &str| {
        let candidates = (0..=scope.len()).rev().map(|n| [&scope[..n], &[name]].concat().join("."));
        candidates.into_iter().find(|c| names.contains(c))
    };
    let mut lines = Vec::new();
    for line in text.lines() {
        let code = without_comment(line);
        let keeps = ["import ", "package ", "option ", "syntax "].iter().any(|k| code.trim_start().starts_with(k));
        let comment = &line[code.len()..];
        let rewritten = dotted.replace_all(code, |found: &regex::Captures<'_>| {
            let whole = found.get(0).expect("a match has a whole");
            let rooted = code[..whole.start()].ends_with('.');
            let full = if keeps || rooted { None } else { resolve(whole.as_str()) };
            full.map_or_else(|| whole.as_str().to_owned(), |f| format!(".{f}"))
        });
        lines.push(format!("{rewritten}{comment}"));
    }
    lines.join("\n") + "\n"
}
