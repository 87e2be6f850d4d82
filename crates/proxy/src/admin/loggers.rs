//! What is logged, and how that is changed while the proxy runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use tracing::level_filters::LevelFilter;

use super::{Answer, Query};
use crate::Proxy;

/// The parts of the proxy that log, by Envoy's names for them, with the target of their events.
const LOGGERS: &[(&str, &str)] = &[
    ("admin", "proxy::admin"),
    ("config", "proxy::discovery"),
    ("conn_handler", "proxy::worker"),
    ("connection", "proxy::downstream"),
    ("file", "proxy::access_log"),
    ("upstream", "proxy::upstream"),
];
/// The logger of everything else.
const MAIN: &str = "main";

/// Envoy's names of levels, and what they mean here.
const LEVELS: &[(&str, LevelFilter)] = &[
    ("trace", LevelFilter::TRACE),
    ("debug", LevelFilter::DEBUG),
    ("info", LevelFilter::INFO),
    ("warning", LevelFilter::WARN),
    ("error", LevelFilter::ERROR),
    ("critical", LevelFilter::ERROR),
    ("off", LevelFilter::OFF),
];

const USAGE: &str = "usage: /logging?<name>=<level> (change single level)\n\
                     usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
                     usage: /logging?level=<level> (change all levels)\n\
                     levels: trace debug info warning error critical off\n";

pub(super) fn answer(proxy: &Proxy, query: &Query<'_>) -> Answer {
    let loggers = proxy.loggers();
    let mut changes = Vec::new();
    for (name, value) in &query.0 {
        match &**name {
            "level" => changes.push((None, &**value)),
            "paths" => match value.split(',').map(|path| path.split_once(':')).collect::<Option<Vec<_>>>() {
                Some(paths) => changes.extend(paths.into_iter().map(|(name, level)| (Some(name), level))),
                None => return Answer::error(StatusCode::BAD_REQUEST, format!("error: empty level\n\n{USAGE}")),
            },
            name => changes.push((Some(name), &**value)),
        }
    }
    match loggers.set(&changes) {
        Ok(()) => Answer::text(loggers.list()),
        Err(why) => Answer::error(StatusCode::BAD_REQUEST, format!("error: {why}\n\n{USAGE}{}", loggers.list())),
    }
}

/// The loggers of the proxy, each with its level.
pub struct Loggers {
    levels: Mutex<BTreeMap<&'static str, &'static str>>,
    reload: Box<dyn Fn(&str) + Send + Sync>,
}

impl Loggers {
    /// Loggers that start at the level `info`. `reload` hears what is to be logged, whenever that changes, as
    /// directives such as `info,proxy::admin=debug`.
    pub fn new(reload: impl Fn(&str) + Send + Sync + 'static) -> Loggers {
        let names = LOGGERS.iter().map(|(name, _)| *name).chain([MAIN]);
        let levels = names.map(|name| (name, "info")).collect();
        Loggers { levels: Mutex::new(levels), reload: Box::new(reload) }
    }

    /// Sets the level of one logger, or of all; an error says what is not known.
    pub(super) fn set(&self, changes: &[(Option<&str>, &str)]) -> Result<(), String> {
        let mut levels = self.levels();
        let mut next = levels.clone();
        for (name, level) in changes {
            let (level, _) =
                LEVELS.iter().find(|(l, _)| l == level).ok_or_else(|| format!("unknown logger level {level:?}"))?;
            let concerned = |logger: &str| name.is_none_or(|name| name == logger);
            let mut found = next.iter_mut().filter(|(logger, _)| concerned(logger)).peekable();
            if found.peek().is_none() {
                return Err(format!("unknown logger name {:?}", name.unwrap_or_default()));
            }
            found.for_each(|(_, l)| *l = level);
        }
        if *levels == next {
            return Ok(());
        }
        *levels = next;
        (self.reload)(&directives(&levels));
        Ok(())
    }

    /// Envoy's list of loggers with their levels.
    pub(super) fn list(&self) -> String {
        let lines = self.levels().iter().map(|(name, level)| format!("  {name}: {level}\n")).collect::<String>();
        format!("active loggers:\n{lines}\n")
    }

    fn levels(&self) -> MutexGuard<'_, BTreeMap<&'static str, &'static str>> {
        // The levels are replaced as a whole.
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Loggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loggers").field(&*self.levels()).finish()
    }
}

/// The directives that mean `levels`.
fn directives(levels: &BTreeMap<&'static str, &'static str>) -> String {
    let filter = |level: &str| LEVELS.iter().find(|(l, _)| *l == level).map_or(LevelFilter::INFO, |(_, f)| *f);
    let of = |name: &str| levels.get(name).map_or(LevelFilter::INFO, |level| filter(level));
    let targets = LOGGERS.iter().map(|(name, target)| format!(",{target}={}", of(name)));
    format!("{}{}", of(MAIN), targets.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn whoever_logs_hears_what_to_log() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hear = heard.clone();
        let loggers = Loggers::new(move |directives| hear.lock().unwrap().push(directives.to_owned()));
        loggers.set(&[(None, "off"), (Some("admin"), "warning")]).unwrap();
        loggers.set(&[]).unwrap();
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 1, "nothing changed the second time");
        assert!(heard[0].starts_with("off,proxy::admin=warn,proxy::discovery=off,"), "{heard:?}");
    }
}
