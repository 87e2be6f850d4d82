//! Protocols that a request may change to.

use envoy::envoy::config::route::v3::route_action;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager;

use crate::config::field::{Checked, Path, fields};

/// What the header `upgrade` may ask for, and `CONNECT` for the method of that name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upgrades(Box<[Upgrade]>);

/// A protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Its name, in lower case.
    pub protocol: Box<str>,
    /// Whether it is allowed.
    pub enabled: bool,
}

impl Upgrades {
    /// Whether a protocol is allowed; `None` where nothing is said of it.
    pub fn allows(&self, protocol: &str) -> Option<bool> {
        self.0.iter().find(|u| u.protocol.eq_ignore_ascii_case(protocol)).map(|u| u.enabled)
    }

    fn new(at: &Path<'_>, upgrades: Vec<Upgrade>) -> Checked<Upgrades> {
        let again = |i: usize, u: &Upgrade| upgrades.iter().take(i).any(|other| other.protocol == u.protocol);
        match upgrades.iter().enumerate().find(|(i, u)| again(*i, u)) {
            Some((i, _)) => Err(at.index(i).field("upgrade_type").reject("is there already")),
            None => Ok(Upgrades(upgrades.into())),
        }
    }

    pub(super) fn of_connections(
        at: &Path<'_>,
        messages: Vec<http_connection_manager::UpgradeConfig>,
    ) -> Checked<Upgrades> {
        let upgrade = |(i, message): (usize, http_connection_manager::UpgradeConfig)| {
            let at = at.index(i);
            fields!(at, message => http_connection_manager::UpgradeConfig { upgrade_type, enabled }
                refuse { filters });
            let protocol = at.field("upgrade_type").named(&upgrade_type)?.to_ascii_lowercase().into();
            Ok(Upgrade { protocol, enabled: enabled.unwrap_or(true) })
        };
        Upgrades::new(at, messages.into_iter().enumerate().map(upgrade).collect::<Checked<_>>()?)
    }

    pub(super) fn of_route(at: &Path<'_>, messages: Vec<route_action::UpgradeConfig>) -> Checked<Upgrades> {
        let upgrade = |(i, message): (usize, route_action::UpgradeConfig)| {
            let at = at.index(i);
            fields!(at, message => route_action::UpgradeConfig { upgrade_type, enabled } refuse { connect_config });
            let protocol = at.field("upgrade_type").named(&upgrade_type)?.to_ascii_lowercase().into();
            Ok(Upgrade { protocol, enabled: enabled.unwrap_or(true) })
        };
        Upgrades::new(at, messages.into_iter().enumerate().map(upgrade).collect::<Checked<_>>()?)
    }
}
