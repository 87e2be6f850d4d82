//! What is spoken at a port.

/// What is spoken at a port, as far as it changes a sidecar's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2, gRPC included.
    Http2,
    /// TLS, which is routed by server name.
    Tls,
    /// Bytes.
    Tcp,
    /// Not said.
    Unknown,
    /// Datagrams, which are not captured.
    Udp,
}

impl Protocol {
    /// What a Kubernetes port declares: `appProtocol` before the name's prefix before well-known numbers.
    pub(crate) fn of_port(transport: Option<&str>, app_protocol: Option<&str>, name: &str, number: u16) -> Protocol {
        if !matches!(transport, None | Some("TCP")) {
            return Protocol::Udp;
        }
        let declared = app_protocol.and_then(Protocol::parse);
        let prefix = || Protocol::parse(name.split('-').next().unwrap_or_default());
        declared.or_else(prefix).unwrap_or_else(|| Protocol::well_known(number))
    }

    /// A protocol's name, as in a ServiceEntry or the prefix of a port's name.
    pub(crate) fn parse(text: &str) -> Option<Protocol> {
        let text = text.strip_prefix("kubernetes.io/").unwrap_or(text).to_ascii_lowercase();
        Some(match text.as_str() {
            "http" | "ws" => Protocol::Http,
            "http2" | "grpc" | "grpc-web" | "h2c" => Protocol::Http2,
            "https" | "tls" | "wss" => Protocol::Tls,
            "tcp" | "mongo" | "mysql" | "redis" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        })
    }

    /// Whether it is HTTP of some version.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Http2)
    }

    /// Servers on these ports speak first, so that nothing can be learnt from the client.
    fn well_known(number: u16) -> Protocol {
        match number {
            25 | 3306 | 27017 => Protocol::Tcp,
            _ => Protocol::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_wins_over_the_name_over_the_number() {
        let of = |app, name, number| Protocol::of_port(Some("TCP"), app, name, number);
        assert_eq!(of(Some("tcp"), "http-web", 80), Protocol::Tcp);
        assert_eq!(of(Some("kubernetes.io/h2c"), "", 80), Protocol::Http2);
        assert_eq!(of(Some("example.com/own"), "tls-x", 80), Protocol::Tls);
        assert_eq!(of(None, "httpx", 3306), Protocol::Tcp);
        assert_eq!(of(None, "", 9000), Protocol::Unknown);
        assert_eq!(Protocol::of_port(Some("UDP"), None, "http", 53), Protocol::Udp);
    }
}
