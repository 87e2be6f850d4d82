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

/// `METHOD http://AUTHORITY/PATH [NAME: VALUE, …]`.
fn ask(mark: &str, line: &str) -> Ask {
    let (method, rest) = line.split_once(" http://").unwrap();
    let (target, headers) = rest.split_once(" [").unwrap_or((rest, "]"));
    let slash = target.find('/').unwrap();
    let (authority, path) = target.split_at(slash);
    let port = authority.rsplit_once(':').map_or("80", |(_, port)| port);
    let headers = headers.trim_end_matches(']').split(", ").filter(|h| !h.is_empty()).map(str::to_owned);
    Ask {
        line: line.to_owned(),
        held: mark == "?+",
        many: mark == "?*",
        method: method.to_owned(),
        authority: authority.trim_end_matches(":80").to_owned(),
        port: port.to_owned(),
        path: path.to_owned(),
        headers: headers.collect(),
        ..Ask::default()
    }
}
