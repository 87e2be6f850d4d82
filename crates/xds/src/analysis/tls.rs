//! TLS that protects less than it seems to, and entries that cannot be told apart.

use serde_json::Value;

use super::conflict::is_empty;
use super::world::{DESTINATION_RULE, Item, SERVICE_ENTRY, World, field, items};
use super::{Finding, Rule};
use crate::Severity;

const NOT_VERIFIED: Rule = Rule("IST0128", "NoServerCertificateVerificationDestinationLevel", Severity::Error);
const PORT_NOT_VERIFIED: Rule = Rule("IST0129", "NoServerCertificateVerificationPortLevel", Severity::Warning);
const ADDRESSES_REQUIRED: Rule = Rule("IST0134", "ServiceEntryAddressesRequired", Severity::Warning);

/// TLS to servers whose certificates nobody looks at.
pub(super) fn verification(world: &World<'_>, found: &mut Vec<Finding>) {
    for item in world.of(DESTINATION_RULE) {
        let policy = field(item.spec(), "trafficPolicy", "traffic_policy");
        if let Some(mode) = unverified(&policy["tls"]) {
            let fix = "set caCertificates, or credentialName";
            found.push(NOT_VERIFIED.at(&item, "spec.trafficPolicy.tls", message(&item, mode)).with_fix(fix));
        }
        let ports = field(policy, "portLevelSettings", "port_level_settings");
        for (i, port) in items(ports).iter().enumerate() {
            if let Some(mode) = unverified(&port["tls"]) {
                let at = format!("spec.trafficPolicy.portLevelSettings[{i}].tls");
                let number = port["port"]["number"].as_u64().unwrap_or_default();
                let message = format!("{} at port {number}", message(&item, mode));
                found.push(PORT_NOT_VERIFIED.at(&item, at, message).with_fix("set caCertificates, or credentialName"));
            }
        }
    }
}

fn message(item: &Item<'_>, mode: &str) -> String {
    format!(
        "DestinationRule {} in namespace {} has TLS mode set to {mode} but no caCertificates are set to validate server identity \
         for host: {}",
        item.name(),
        item.namespace(),
        item.text("/spec/host"),
    )
}

/// The mode, if it is one that should look at the server's certificate and has nothing to compare it with.
fn unverified(tls: &Value) -> Option<&str> {
    let mode = tls["mode"].as_str().filter(|mode| ["SIMPLE", "MUTUAL"].contains(mode))?;
    let authorities = [("caCertificates", "ca_certificates"), ("credentialName", "credential_name")];
    authorities.iter().all(|(camel, snake)| is_empty(field(tls, camel, snake))).then_some(mode)
}

/// Entries for TCP without an address: nothing but the port tells them from others.
pub(super) fn service_entries(world: &World<'_>, found: &mut Vec<Finding>) {
    for item in world.of(SERVICE_ENTRY).filter(|item| is_empty(&item.spec()["addresses"])) {
        for (i, port) in items(&item.spec()["ports"]).iter().enumerate() {
            let protocol = port["protocol"].as_str().unwrap_or_default();
            if protocol.is_empty() || protocol.eq_ignore_ascii_case("TCP") {
                let message = "ServiceEntry addresses are required for this protocol.";
                found.push(ADDRESSES_REQUIRED.at(&item, format!("spec.ports[{i}].protocol"), message));
            }
        }
    }
}
