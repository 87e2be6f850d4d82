//! The init container that has the pod's connections led to the proxy.

use serde_json::{Value, json};

use super::annotation::{Annotations, InjectionError};
use super::{INIT, STATUS_PORT, USER, proxy};

/// How connections are captured.
pub(super) const MODE: &str = "sidecar.istio.io/interceptionMode";

/// The container, unless the pod wants nothing captured.
pub(super) fn container(annotations: &Annotations<'_>) -> Result<Option<Value>, InjectionError> {
    match annotations.text(MODE).unwrap_or("REDIRECT") {
        "NONE" => return Ok(None),
        "REDIRECT" => {}
        other => {
            let why = "connections are captured by REDIRECT, or not at all with NONE";
            return Err(annotations.refuse(MODE, other, why));
        }
    }
    Ok(Some(json!({
        "name": INIT,
        "image": proxy::image(annotations),
        "args": arguments(annotations)?,
        "resources": proxy::resources(annotations),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": false,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
        },
    })))
}

fn arguments(annotations: &Annotations<'_>) -> Result<Vec<String>, InjectionError> {
    let traffic = |what: &str| format!("traffic.sidecar.istio.io/{what}");
    let include = annotations.networks(&traffic("includeOutboundIPRanges"), true)?.unwrap_or("*");
    let exclude = annotations.networks(&traffic("excludeOutboundIPRanges"), false)?.unwrap_or("");
    let inbound = annotations.ports_or_all(&traffic("includeInboundPorts"))?.unwrap_or("*");
    let not_inbound = annotations.ports(&traffic("excludeInboundPorts"))?.unwrap_or("");
    let outbound = annotations.ports(&traffic("includeOutboundPorts"))?;
    let not_outbound = annotations.ports(&traffic("excludeOutboundPorts"))?;
    let (user, status) = (USER.to_string(), STATUS_PORT.to_string());
    let own = ["15090", "15021"].into_iter().chain(not_inbound.split(',')).map(str::trim);
    let mut excluded: Vec<&str> = own.filter(|port| !port.is_empty()).collect();
    if !excluded.contains(&status.as_str()) {
        excluded.push(&status);
    }
    let excluded = excluded.join(",");
    let mut all = vec!["istio-iptables", "-p", "15001", "-z", "15006", "-u", &user, "-m", "REDIRECT"];
    all.extend(["-i", include, "-x", exclude, "-b", inbound, "-d", &excluded]);
    for (option, ports) in [("-q", outbound), ("-o", not_outbound)] {
        all.extend(ports.filter(|ports| !ports.is_empty()).into_iter().flat_map(|ports| [option, ports]));
    }
    Ok(all.into_iter().map(str::to_owned).collect())
}
