//! Endpoints and EndpointSlices, which people also write by hand.

use std::net::IpAddr;

use api::{ApiError, Cause, name};
use apiserver::{Operation, Review};

use super::field::{Field, default, default_text, items_mut};
use super::{check_ip, check_name, verdict};

/// The most addresses and ports of a slice.
const MOST_ENDPOINTS: usize = 1000;
const MOST_PORTS: usize = 100;

/// Defaults and validation of Endpoints.
pub(super) fn review(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete {
        return Ok(());
    }
    for subset in items_mut(review.object, "subsets") {
        items_mut(subset, "ports").for_each(|port| default_text(port, "protocol", "TCP"));
    }
    let mut causes: Vec<Cause> = check_name(review.name, name::check_subdomain).into_iter().collect();
    for subset in Field::of(review.object, "subsets").items() {
        let (ready, waiting) = (subset.get("addresses"), subset.get("notReadyAddresses"));
        if ready.items().next().is_none() && waiting.items().next().is_none() {
            causes.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
        }
        for address in ready.items().chain(waiting.items()) {
            check_address(&address.get("ip"), &mut causes);
            let host = address.get("hostname");
            if !host.is_empty() {
                causes.extend(host.named(name::check_label));
            }
        }
        let several = subset.get("ports").items().count() > 1;
        subset.get("ports").items().for_each(|port| check_port(&port, several, &mut causes));
    }
    verdict(review, "", "Endpoints", causes)
}

/// Defaults and validation of an EndpointSlice.
pub(super) fn review_slice(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete {
        return Ok(());
    }
    for port in items_mut(review.object, "ports") {
        default(port, "name", "");
        default_text(port, "protocol", "TCP");
    }
    let mut causes: Vec<Cause> = check_name(review.name, name::check_subdomain).into_iter().collect();
    let kind = Field::of(review.object, "addressType");
    if kind.is_empty() {
        causes.push(kind.required(""));
    } else {
        causes.extend(kind.one_of(&["FQDN", "IPv4", "IPv6"]));
    }
    if let Some(old) = review.old {
        causes.extend(kind.unchanged(&old["addressType"]));
    }
    check_slice(&Field::of(review.object, "endpoints"), kind.str(), &mut causes);
    check_slice_ports(&Field::of(review.object, "ports"), &mut causes);
    verdict(review, "discovery.k8s.io", "EndpointSlice", causes)
}

fn check_slice(endpoints: &Field<'_>, kind: &str, causes: &mut Vec<Cause>) {
    if endpoints.items().count() > MOST_ENDPOINTS {
        let message = format!("Too many: must have at most {MOST_ENDPOINTS} items");
        causes.push(Cause { reason: "FieldValueTooMany", message, field: endpoints.path.clone() });
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.get("addresses");
        if addresses.items().next().is_none() {
            causes.push(addresses.required("must contain at least 1 address"));
        }
        for address in addresses.items() {
            match kind {
                "FQDN" => causes.extend(address.named(name::check_subdomain)),
                "IPv4" if !matches!(address.str().parse(), Ok(IpAddr::V4(_))) => {
                    causes.push(address.invalid("must be a valid IPv4 address"));
                }
                "IPv6" if !matches!(address.str().parse(), Ok(IpAddr::V6(_))) => {
                    causes.push(address.invalid("must be a valid IPv6 address"));
                }
                "IPv4" | "IPv6" => check_address(&address, causes),
                _ => {}
            }
        }
        let host = endpoint.get("hostname");
        if !host.value.is_null() {
            causes.extend(host.named(name::check_label));
        }
    }
}

fn check_slice_ports(ports: &Field<'_>, causes: &mut Vec<Cause>) {
    if ports.items().count() > MOST_PORTS {
        let message = format!("Too many: must have at most {MOST_PORTS} items");
        causes.push(Cause { reason: "FieldValueTooMany", message, field: ports.path.clone() });
    }
    let mut names = std::collections::BTreeSet::new();
    for port in ports.items() {
        let own = port.get("name");
        if !own.is_empty() {
            causes.extend(own.named(name::check_label));
        }
        if !names.insert(own.str()) {
            causes.push(own.duplicate());
        }
        causes.extend(port.get("protocol").one_of(&["SCTP", "TCP", "UDP"]));
        if !port.get("port").value.is_null() {
            causes.extend(port.get("port").port());
        }
    }
}

fn check_port(port: &Field<'_>, several: bool, causes: &mut Vec<Cause>) {
    let own = port.get("name");
    if !own.is_empty() {
        causes.extend(own.named(name::check_label));
    } else if several {
        causes.push(own.required(""));
    }
    causes.extend(port.get("port").port());
    causes.extend(port.get("protocol").one_of(&["SCTP", "TCP", "UDP"]));
}

/// Addresses that no endpoint can have, because packets to them would go elsewhere.
fn check_address(address: &Field<'_>, causes: &mut Vec<Cause>) {
    if let Some(cause) = check_ip(address) {
        causes.push(cause);
        return;
    }
    let Ok(ip) = address.str().parse::<IpAddr>() else { return };
    let link_local = matches!(ip, IpAddr::V4(ip) if ip.is_link_local());
    let why = if ip.is_unspecified() {
        "may not be unspecified (0.0.0.0 or ::)"
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    } else if ip.is_multicast() {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    } else {
        return;
    };
    causes.push(address.invalid(why));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_must_be_one_that_packets_can_reach() {
        let object = json!({"ips": ["10.0.0.1", "127.0.0.1", "0.0.0.0", "nowhere"]});
        let mut causes = Vec::new();
        Field::of(&object, "ips").items().for_each(|ip| check_address(&ip, &mut causes));
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(fields, ["ips[1]", "ips[2]", "ips[3]"]);
    }

    #[test]
    fn a_slice_holds_addresses_of_its_type() {
        let slice = json!({"endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["fd00::1"]}, {"addresses": []}]});
        let mut causes = Vec::new();
        check_slice(&Field::of(&slice, "endpoints"), "IPv4", &mut causes);
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(fields, ["endpoints[1].addresses[0]", "endpoints[2].addresses"]);
    }
}
