//! Our own types for what an L4 proxy needs, converted from Envoy's v3 messages.
//!
//! Every check lives in the conversion, so that the data path has none. Each message is taken apart completely (see
//! `field`): a field that is set but not supported, and an extension of unknown type, is a [`Rejected`] that
//! names the path, for example `filter_chains[2].filters[0].typed_config.max_connect_attempts`.

#![expect(deprecated, reason = "a deprecated field that is set must be refused by name like any other")]

mod access_log;
mod address;
mod bootstrap;
mod chain_index;
mod cluster;
mod data_source;
mod discovery;
mod endpoint;
mod field;
mod filter_chain;
mod fraction;
mod health_check;
pub mod http;
mod listener;
mod load_balancer;
mod metadata;
mod metadata_match;
mod outlier;
mod rbac;
mod secret;
mod string_match;
mod tcp_proxy;
#[cfg(test)]
mod tests;
mod tls;
mod uri_template;
mod validation;
mod weighted;

pub use access_log::{AccessLog, Sink};
pub use bootstrap::Bootstrap;
pub use chain_index::{ChainIndex, ConnectionFacts};
pub use cluster::{Cluster, Limits, RetryBudget, Socket, SocketMatch};
pub use discovery::{Discovery, Dns, DnsFamily};
pub use endpoint::{Endpoint, EndpointAddress, EndpointCheck, Health, LoadAssignment, Locality, LocalityEndpoints};
pub use field::Rejected;
pub use filter_chain::{ChainMatch, FilterChain, ServerName, SourceType, Terminal, TransportProtocol};
pub use fraction::Fraction;
pub use health_check::{HealthCheck, HttpQuestion, Intervals, Question};
pub use listener::{Direction, HttpInspector, Listener, PortPredicate, TlsInspector};
pub use load_balancer::{CommonBalancing, LoadBalancer, SlowStart};
pub use metadata::Metadata;
pub use metadata_match::MetadataMatch;
pub use outlier::{FailurePercentage, OutlierDetection, SuccessRate, Trigger};
pub use rbac::RbacFilter;
pub use secret::{Secret, SecretValue, TlsCertificate};
pub use string_match::StringMatch;
pub use tcp_proxy::{ClusterChoice, Keepalive, TcpProxy};
pub use tls::{Certificates, DownstreamTls, SecretRef, SecretSource, TlsSettings, UpstreamTls};
pub use uri_template::UriTemplate;
pub use validation::{Pin, SanKind, SanMatch, Trust, TrustDomain, Validation, ValidationContext};
pub use weighted::Weighted;
