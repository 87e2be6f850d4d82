//! What an HTTP proxy needs: the connection manager, route tables, and how clusters are spoken to.

mod action;
mod client_certificate;
mod connection_options;
mod connections;
mod cors;
mod ext_authz;
mod fault;
mod field;
mod filter;
mod hash_policy;
mod header;
mod host_index;
mod jwks;
mod jwt_authn;
mod mirror;
mod offer;
mod protocol;
mod rbac;
mod redirect;
mod regex_rewrite;
mod retry;
mod route;
mod route_index;
mod route_match;
mod route_table;
mod tracing;
mod upgrade;
mod upstream;
mod virtual_host;

pub use action::{
    Action, ClusterSource, Destination, DirectResponse, HostRewrite, PathRewrite, RouteAction, RouteTimeouts,
};
pub use client_certificate::{CertificateDetails, ClientCertificate, ForwardClientCertificate};
pub use connection_options::{ConnectionOptions, Underscores};
pub use connections::{
    Codec, EscapedSlashes, HttpConnectionManager, PathNormalization, RemoteAddress, RequestId, RouteSource,
    ServerHeader, StripPort, Timeouts,
};
pub use cors::CorsPolicy;
pub use ext_authz::{AuthzOverride, AuthzService, BodyLimit, ExtAuthz, GrpcAuthz, HttpAuthz};
pub use fault::{Abort, Delay, Fault, FaultOf, Most, Stated};
pub use field::Field;
pub use filter::{HttpFilter, NamedFilter, Override, Overrides, Router};
pub use hash_policy::{HashCookie, HashOn, HashPolicy};
pub use header::{Append, HeaderAddition, HeaderMutations, HeaderText};
pub use jwks::{Jwks, Signature};
pub use jwt_authn::{
    ClaimHeader, JwksSource, JwtAuthn, JwtOverride, JwtProvider, JwtRequirement, JwtRule, Locations, RemoteJwks,
};
pub use mirror::Mirror;
pub use offer::Protocols;
pub use protocol::{FrameLimits, Http1Options, Http2Options};
pub use rbac::HttpRbac;
pub use redirect::{Redirect, RedirectPath};
pub use regex_rewrite::RegexRewrite;
pub use retry::{RetryOn, RetryPolicy};
pub use route::{Decorator, Route};
pub use route_match::{HeaderMatch, HeaderTest, PathMatch, QueryMatch, QueryTest, RouteMatch, TlsMatch};
pub use route_table::RouteTable;
pub use tracing::{Collector, CustomTag, TagSource, Tracing};
pub use upgrade::{Upgrade, Upgrades};
pub use upstream::{HttpProtocolOptions, UpstreamProtocol};
pub use virtual_host::{Domain, RequireTls, VirtualHost};
