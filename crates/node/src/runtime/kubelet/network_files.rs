//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a pod.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

/// The files' names, both in the pod's directory and in `/etc`.
pub(super) const NAMES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Where a pod's files are on the host.
pub(super) fn path(pod: &Path, name: &str) -> PathBuf {
    pod.join("etc").join(name)
}

/// Writes the files of a pod that has just got its address.
pub(super) fn write(directory: &Path, pod: &Pod, address: Ipv4Addr, nameserver: Ipv4Addr) -> io::Result<()> {
    std::fs::create_dir_all(directory.join("etc"))?;
    let contents = [hosts(pod, address), format!("{}\n", hostname(pod)), resolv_conf(pod, nameserver)];
    NAMES.iter().zip(contents).try_for_each(|(name, text)| std::fs::write(path(directory, name), text))
}

/// The pod's host name: `spec.hostname`, or its own name as far as a host name may be that long.
pub(super) fn hostname(pod: &Pod) -> String {
    let own = pod.spec.as_ref().and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let name = own.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let short: String = name.chars().take(63).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

fn hosts(pod: &Pod, address: Ipv4Addr) -> String {
    let spec = pod.spec.as_ref();
    let name = hostname(pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let names = match spec.and_then(|s| s.subdomain.as_deref()).filter(|s| !s.is_empty()) {
        Some(subdomain) => format!("{name}.{subdomain}.{namespace}.svc.cluster.local\t{name}"),
        None => name,
    };
    let mut text = format!(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
         {address}\t{names}\n"
    );
    let aliases = spec.and_then(|s| s.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t")));
    }
    text
}

fn resolv_conf(pod: &Pod, nameserver: Ipv4Addr) -> String {
    let spec = pod.spec.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let config = spec.and_then(|s| s.dns_config.as_ref());
    let (mut servers, mut search, mut options) = match spec.and_then(|s| s.dns_policy.as_deref()) {
        Some("None") => Default::default(),
        Some("Default") => return host_resolv_conf(config),
        _ => (
            vec![nameserver.to_string()],
            vec![format!("{namespace}.svc.cluster.local"), "svc.cluster.local".into(), "cluster.local".into()],
            vec!["ndots:5".to_owned()],
        ),
    };
    let PodDNSConfig { nameservers, searches, options: more } = config.cloned().unwrap_or_default();
    servers.extend(nameservers.into_iter().flatten());
    search.extend(searches.into_iter().flatten());
    for option in more.into_iter().flatten() {
        let Some(name) = option.name else { continue };
        options.retain(|old: &String| old.split(':').next() != Some(&name));
        options.push(option.value.map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
    }
    let mut text = String::new();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    servers.iter().for_each(|server| text.push_str(&format!("nameserver {server}\n")));
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

fn host_resolv_conf(config: Option<&PodDNSConfig>) -> String {
    let mut text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for server in config.and_then(|c| c.nameservers.as_ref()).into_iter().flatten() {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "web-0", "namespace": "ns" }, "spec": spec })).unwrap()
    }

    #[test]
    fn names_are_looked_up_in_the_cluster_first() {
        let dns = Ipv4Addr::new(10, 97, 0, 10);
        let plain = resolv_conf(&pod(json!({ "containers": [] })), dns);
        let expected =
            "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.97.0.10\noptions ndots:5\n";
        assert_eq!(plain, expected);
        let config =
            json!({ "searches": ["x.y"], "options": [{ "name": "ndots", "value": "2" }, { "name": "edns0" }] });
        let configured = resolv_conf(&pod(json!({ "containers": [], "dnsConfig": config })), dns);
        assert!(configured.contains("cluster.local x.y\n") && configured.ends_with("options ndots:2 edns0\n"));
        let none = json!({ "containers": [], "dnsPolicy": "None", "dnsConfig": { "nameservers": ["9.9.9.9"] } });
        assert_eq!(resolv_conf(&pod(none), dns), "nameserver 9.9.9.9\n");
    }

    #[test]
    fn hosts_knows_the_pod_and_its_aliases() {
        let aliases = json!([{ "ip": "1.2.3.4", "hostnames": ["a", "b"] }]);
        let text = hosts(
            &pod(json!({ "containers": [], "subdomain": "sub", "hostAliases": aliases })),
            Ipv4Addr::new(10, 33, 0, 11),
        );
        assert!(text.contains("10.33.0.11\tweb-0.sub.ns.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("1.2.3.4\ta\tb\n"), "{text}");
    }
}
