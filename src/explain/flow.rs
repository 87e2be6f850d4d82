//! What is under way between two proxies.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri, header};
use proxy::config::http::Protocols;
use proxy::config::{UpstreamTls, ValidationContext};
use proxy::inspect::{Hello, Spoken};
use proxy::select::{Arrival, Connection};

use super::certificate::{Shown, is_own};
use super::explanation::Tls;
use super::path::Asked;
use super::sidecar::Sidecar;

/// A port that nobody looks at: connections have some source port.
const SOURCE_PORT: u16 = 40000;

/// A connection with what it carries.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    /// Where it comes from.
    pub(super) source: IpAddr,
    /// The head of the request that it carries, if somebody asks about one.
    pub(super) request: Option<Parts>,
    /// The TLS around it, the outermost last.
    pub(super) layers: Vec<Layer>,
}

/// One layer of TLS.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) hello: Hello,
    pub(super) shown: Shown,
    /// What is demanded of the server; `None` if that is between the application and whom it calls.
    pub(super) demands: Option<Arc<ValidationContext>>,
    /// Whether the client shows its workload's own certificate.
    pub(super) mutual: bool,
}

impl Flow {
    /// What the application itself sends.
    pub(super) fn of_application(source: IpAddr, asked: Option<&Asked>) -> Flow {
        let layer = asked.filter(|asked| asked.secure).map(|asked| Layer {
            hello: Hello {
                server_name: asked.server_name.as_deref().map(Into::into),
                application_protocols: ["h2", "http/1.1"].map(Into::into).into(),
            },
            shown: Shown::default(),
            demands: None,
            mutual: false,
        });
        Flow { source, request: asked.map(|asked| asked.parts.clone()), layers: layer.into_iter().collect() }
    }

    /// The same connection as a proxy sees it.
    pub(super) fn connection(&self, arrival: Arrival, destination: SocketAddr, random: u64) -> Connection<'_> {
        let outer = self.layers.last();
        Connection {
            arrival,
            destination,
            source: SocketAddr::new(self.source, SOURCE_PORT),
            hello: outer.map(|layer| &layer.hello),
            spoken: self.request.as_ref().filter(|_| outer.is_none()).map(|_| Spoken::Http11),
            identities: outer.map_or(&[], |layer| &layer.shown.identities),
            random,
        }
    }

    /// The flow as it leaves a proxy, `in_tls` if it says so. `offer` is what is offered instead of the cluster's protocols.
    pub(super) fn sent(&self, by: &Sidecar, in_tls: Option<&UpstreamTls>, offer: Option<&Protocols>) -> Flow {
        let mut flow = self.clone();
        flow.layers.extend(in_tls.map(|tls| {
            let usual = || tls.settings.alpn.iter().map(|name| Box::from(&**name)).collect();
            let other = |offer: &Protocols| offer.iter().map(|p| String::from_utf8_lossy(p).into()).collect();
            Layer {
                hello: Hello {
                    server_name: tls.sni.as_deref().map(Into::into),
                    application_protocols: offer.map_or_else(usual, other),
                },
                shown: Shown::by(&by.snapshot, &tls.settings, &by.identity),
                demands: by.snapshot.validation(&tls.settings.validation),
                mutual: is_own(&tls.settings),
            }
        }));
        flow
    }

    /// The flow with another head of its request.
    pub(super) fn with_request(&self, path: &str, authority: Option<&str>, mut headers: HeaderMap) -> Flow {
        let mut flow = self.clone();
        if let Some(parts) = &mut flow.request {
            if let Some(Ok(authority)) = authority.map(HeaderValue::from_str) {
                headers.insert(header::HOST, authority);
            }
            parts.headers = headers;
            // What is no path was refused before.
            parts.uri = Uri::try_from(path).unwrap_or_else(|_| parts.uri.clone());
        }
        flow
    }

    /// Who calls, in words: whoever the outermost TLS shows.
    pub(super) fn caller(&self) -> String {
        let identities = self.layers.last().map_or(&[][..], |layer| &layer.shown.identities);
        match identities {
            [] => "a caller without an identity".to_owned(),
            all => all.iter().map(|id| format!("{id:?}")).collect::<Vec<_>>().join(", "),
        }
    }

    /// How it is encrypted on the wire.
    pub(super) fn tls(&self) -> Option<Tls> {
        let layer = self.layers.last()?;
        let certificate = layer.shown.identities.first().filter(|_| !layer.mutual).map(ToString::to_string);
        Some(Tls { mutual: layer.mutual, server_name: layer.hello.server_name.as_deref().map(Into::into), certificate })
    }
}
