//! The cases, as their files have them.

/// Objects, and requests in their world.
#[derive(Default)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) objects: String,
    pub(super) asks: Vec<Ask>,
}

/// A request, and what comes of it.
#[derive(Default)]
pub(super) struct Ask {
    pub(super) line: String,
    /// Whether nothing is waited for.
    pub(super) held: bool,
    /// Whether it is asked several times.
    pub(super) many: bool,
    /// What is spoken beneath the request, if it is TLS.
    pub(super) tls: Option<Tls>,
    pub(super) method: String,
    pub(super) authority: String,
    /// The port of the authority, by which its table is called.
    pub(super) port: String,
    pub(super) path: String,
    pub(super) headers: Vec<String>,
    pub(super) envoys: String,
    pub(super) ours: Option<String>,
    pub(super) why: Option<String>,
}

impl Ask {
    /// Whether the proxy writes a line about it.
    pub(super) fn is_logged(&self) -> bool {
        self.envoys.contains(" | ")
    }
}

/// How a client speaks TLS.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tls {
    /// The URI of its certificate, if it has one.
    pub(super) identity: Option<String>,
    /// The application protocols that it offers.
    pub(super) offers: Vec<String>,
    /// The name that it asks for.
    pub(super) server_name: String,
}

pub(super) fn read(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            cases.push(Case { name: name.to_owned(), ..Case::default() });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        if matches!(mark, "?" | "?+" | "?*") {
            case.asks.push(ask(mark, rest));
            continue;
        }
        match (mark, case.asks.last_mut()) {
            ("", Some(_)) => {}
            ("=", Some(ask)) => ask.envoys = rest.to_owned(),
            ("ours=", Some(ask)) => ask.ours = Some(rest.to_owned()),
            ("why:", Some(ask)) => ask.why = Some(rest.to_owned()),
            (_, None) => case.objects += &format!("{line}\n"),
            (_, Some(_)) => panic!("{}: {line:?} is not understood", case.name),
        }
    }
    cases
}

/// `METHOD http://AUTHORITY/PATH [NAME: VALUE, …] as WHO offering PROTOCOL,…`.
fn ask(mark: &str, line: &str) -> Ask {
    let (request, who) = line.split_once(" as ").map_or((line, None), |(request, who)| (request, Some(who)));
    let (method, rest) = request.split_once(" http://").unwrap();
    let (target, headers) = rest.split_once(" [").unwrap_or((rest, "]"));
    let slash = target.find('/').unwrap();
    let (authority, path) = target.split_at(slash);
    let port = authority.rsplit_once(':').map_or("80", |(_, port)| port);
    let headers = headers.trim_end_matches(']').split(", ").filter(|h| !h.is_empty()).map(str::to_owned);
    Ask {
        line: line.to_owned(),
        held: mark == "?+",
        many: mark == "?*",
        tls: who.map(|who| tls(who, authority.split(':').next().unwrap())),
        method: method.to_owned(),
        authority: authority.trim_end_matches(":80").to_owned(),
        port: port.to_owned(),
        path: path.to_owned(),
        headers: headers.collect(),
        ..Ask::default()
    }
}

/// `NAMESPACE/ACCOUNT`, a URI or `nobody`, and what is offered if it is not what proxies offer for requests.
fn tls(who: &str, server_name: &str) -> Tls {
    let (who, offers) = who.split_once(" offering ").unwrap_or((who, "istio-http/1.1,istio,http/1.1"));
    let identity = match who.split_once('/') {
        None => None,
        Some(_) if who.contains("://") => Some(who.to_owned()),
        Some((namespace, account)) => Some(format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")),
    };
    let offers = offers.split(',').filter(|name| *name != "nothing").map(str::to_owned).collect();
    Tls { identity, offers, server_name: server_name.to_owned() }
}
